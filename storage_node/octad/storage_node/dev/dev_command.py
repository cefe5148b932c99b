"""`octad dev`: a whole cluster on this machine, in one command.

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 could not start, 2 not understood.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from octad.client.runtime.command import CommandError
from octad.client.runtime.private_files import keep_files_private
from octad.sharding.limits import REPLICAS_ALLOWED
from octad.storage_node.cli.node_command import add_block_public_argument, add_domain_argument
from octad.storage_node.cli.node_options import body_budget_bytes, s3_domains

_DOMAIN = "localhost"  # Every name under it is this machine (RFC 6761).
_TLS_DOMAIN = "s3.localhost"  # OpenSSL believes no certificate of "*.localhost".


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=Path("./octad-data"),
        help="where everything is kept (default: ./octad-data)",
    )
    parser.add_argument("--nodes", metavar="N", type=int, help="how many nodes (default: 3)")
    parser.add_argument(
        "--replicas",
        type=int,
        choices=REPLICAS_ALLOWED,
        help="copies of everything (default: 3, or as many as there are nodes)",
    )
    parser.add_argument(
        "--s3-port",
        metavar="PORT",
        type=int,
        default=9000,
        help="S3 of the first node; the others follow (default: 9000)",
    )
    parser.add_argument(
        "--access-key",
        metavar="KEY",
        default=os.environ.get("OCTAD_ACCESS_KEY"),
        help="default: a random one, kept in DIR (OCTAD_ACCESS_KEY)",
    )
    parser.add_argument(
        "--secret-key",
        metavar="SECRET",
        default=os.environ.get("OCTAD_SECRET_KEY"),
        help="its secret (OCTAD_SECRET_KEY)",
    )
    parser.add_argument(
        "--body-budget", metavar="MIB", type=int, help="of each node: see octad node --help"
    )
    add_domain_argument(parser, f" (default: {_DOMAIN}, so http://BUCKET.{_DOMAIN}:9000)")
    parser.add_argument(
        "--tls",
        action="store_true",
        help="S3 with TLS (https), and an authority for clients to trust that is good for this "
        "machine's own names alone",
    )
    parser.add_argument(
        "--no-s3-sigv2", action="store_true", help="of each node: see octad node --help"
    )
    add_block_public_argument(parser, ", of each node")
    parser.add_argument("--s3-strict-aws", action="store_true", help="of each node, as well")
    parser.add_argument(
        "--etcd", metavar="URL[,URL...]", help="use this etcd instead of the embedded store"
    )
    parser.add_argument("--fresh", action="store_true", help="delete what DIR holds first")


def run(arguments: argparse.Namespace) -> int:
    if (arguments.access_key is None) != (arguments.secret_key is None):
        raise CommandError(
            "an access key without a secret key, or the other way round",
            "give both --access-key and --secret-key, or neither",
            2,
        )
    from octad.storage_node.dev.dev_options import DevOptions
    from octad.storage_node.dev.dev_process import run_dev

    node_arguments: list[str] = []
    if arguments.body_budget is not None:
        body_budget_bytes(arguments.body_budget)
        node_arguments += ["--body-budget", str(arguments.body_budget)]
    if arguments.no_s3_sigv2:
        node_arguments.append("--no-s3-sigv2")
    node_arguments += ["--s3-block-public", arguments.s3_block_public]
    if arguments.s3_strict_aws:
        node_arguments.append("--s3-strict-aws")
    keep_files_private()
    return run_dev(
        DevOptions(
            data=arguments.data.absolute(),
            nodes=arguments.nodes,
            replicas=arguments.replicas,
            s3_port=arguments.s3_port,
            access_key=arguments.access_key,
            secret_key=arguments.secret_key,
            etcd=tuple(arguments.etcd.split(",")) if arguments.etcd else (),
            fresh=arguments.fresh,
            tls=arguments.tls,
            domains=s3_domains(arguments.s3_domain or _domains(tls=arguments.tls)),
            more=tuple(node_arguments),
        )
    )


def _domains(*, tls: bool) -> list[str]:
    """The default domains."""
    return [_TLS_DOMAIN, _DOMAIN] if tls else [_DOMAIN]
