"""`octad coordinator`: one coordinator on an etcd, for clusters of real machines.

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 could not start, 2 not understood.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from octad.client.runtime.address import DEFAULT_COORDINATOR_PORT
from octad.client.runtime.command import CommandError
from octad.client.runtime.private_files import keep_files_private
from octad.coordinator.cli.rescue_verbs import add_rescue_verbs, run_rescue_verb
from octad.sharding.limits import REPLICAS_ALLOWED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--etcd", metavar="URL[,URL...]", help="etcd's members, http://host:2379 (required)"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{DEFAULT_COORDINATOR_PORT}",
        help="where to answer (default: %(default)s)",
    )
    parser.add_argument(
        "--join-token",
        metavar="TOKEN",
        default=os.environ.get("OCTAD_JOIN_TOKEN"),
        help="of the cluster that stands; without one a new cluster is made (OCTAD_JOIN_TOKEN)",
    )
    parser.add_argument(
        "--replicas",
        type=int,
        choices=REPLICAS_ALLOWED,
        help="copies in a new cluster (default: 3)",
    )
    parser.add_argument(
        "--nodes-expected",
        metavar="N",
        type=int,
        default=0,
        help="make the first shard map once N nodes have joined "
        "(default: once there are enough and none has joined for 3 s)",
    )
    parser.add_argument(
        "--create",
        action="store_true",
        help="make the cluster of --join-token (octad coordinator new-token) unless it stands",
    )
    parser.add_argument(
        "--access-key",
        metavar="KEY",
        default=os.environ.get("OCTAD_ACCESS_KEY"),
        help="the root access key; a new cluster without one gets a random one (OCTAD_ACCESS_KEY)",
    )
    parser.add_argument(
        "--secret-key",
        metavar="SECRET",
        default=os.environ.get("OCTAD_SECRET_KEY"),
        help="its secret (OCTAD_SECRET_KEY)",
    )
    _add_doors(parser)
    add_rescue_verbs(parser)


def _add_doors(parser: argparse.ArgumentParser) -> None:
    """TLS, DNS, and where services are checked."""
    parser.add_argument(
        "--check-networks",
        metavar="CIDR[,CIDR...]",
        default="",
        help="check services there that ask for it (default: nowhere)",
    )
    parser.add_argument(
        "--tls-cert",
        metavar="FILE",
        type=Path,
        help="answer with TLS (https) alone: the certificate and what leads to its authority "
        "(PEM); read again at SIGHUP",
    )
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="its key, without a password")
    parser.add_argument(
        "--dns", metavar="HOST:PORT", help="answer DNS for NAME.service.octad there (default: not)"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb is not None:
        return run_rescue_verb(arguments)
    if arguments.etcd is None:
        raise CommandError(
            "octad coordinator: the following arguments are required: --etcd",
            "see: octad coordinator --help",
            2,
        )
    if (arguments.access_key is None) != (arguments.secret_key is None):
        raise CommandError(
            "an access key without a secret key, or the other way round",
            "give both --access-key and --secret-key, or neither",
            2,
        )
    from octad.coordinator.cli.coordinator_process import CoordinatorOptions, run_coordinator

    keep_files_private()
    run_coordinator(
        CoordinatorOptions(
            etcd=tuple(url.strip() for url in arguments.etcd.split(",")),
            listen=arguments.listen,
            join_token=arguments.join_token,
            replicas=arguments.replicas,
            nodes_expected=arguments.nodes_expected,
            access_key=arguments.access_key,
            secret_key=arguments.secret_key,
            create=arguments.create,
            check_networks=arguments.check_networks,
            dns=arguments.dns,
            tls_cert=arguments.tls_cert,
            tls_key=arguments.tls_key,
        )
    )
    return 0
