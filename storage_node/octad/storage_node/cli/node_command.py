"""`octad node`: one storage node; with a verb, which nodes hold data (`node_verbs.py`).

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 could not start or its disk failed, 2 not understood.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from octad.client.runtime.address import DEFAULT_COORDINATOR_PORT
from octad.client.runtime.command import CommandError
from octad.client.runtime.private_files import keep_files_private
from octad.coordinator.cli.node_verbs import add_node_verbs, run_node_verb
from octad.sharding.limits import MIB
from octad.storage_node.cli.node_options import (
    ADMIN_PORT_ABOVE_S3,
    DEFAULT_LISTEN,
    FRONT_DOORS,
    HOT,
    LOG_PORT_ABOVE_S3,
    RPC_PORT_ABOVE_S3,
    s3_domains,
)
from octad.storage_node.cli.supervision import (
    ON_DISK_VARIABLE,
    REPORT_VARIABLE,
    SUPERVISOR_VARIABLE,
)

BODY_BUDGET_BYTES = 256 * MIB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_listeners(parser)
    _add_front_door(parser)
    _add_cluster(parser)
    _add_tls(parser)
    add_node_verbs(parser)


def _add_listeners(parser: argparse.ArgumentParser) -> None:
    """The disk, and where it listens."""
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="where its data lies: one disk (required)"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=DEFAULT_LISTEN,
        help="where it answers S3 (default: %(default)s)",
    )
    parser.add_argument(
        "--rpc-port",
        metavar="PORT",
        type=int,
        help=f"for the other nodes, on the same host (default: the S3 port + {RPC_PORT_ABOVE_S3})",
    )
    parser.add_argument(
        "--admin-listen",
        metavar="HOST:PORT",
        help="where it answers /metrics, /healthz and /readyz "
        f"(default: 127.0.0.1, the S3 port + {ADMIN_PORT_ABOVE_S3})",
    )
    parser.add_argument(
        "--log-listen",
        metavar="HOST:PORT",
        help=f"where it serves topics (default: 127.0.0.1, the S3 port + {LOG_PORT_ABOVE_S3})",
    )


def _add_front_door(parser: argparse.ArgumentParser) -> None:
    """Options of the S3 port."""
    parser.add_argument(
        "--front-door",
        choices=FRONT_DOORS,
        default=os.environ.get("OCTAD_FRONT_DOOR", HOT),
        help="who reads S3 requests: the node itself, with aiohttp for unusual ones, or "
        "aiohttp alone (OCTAD_FRONT_DOOR; default: hot)",
    )
    add_domain_argument(parser, "")
    parser.add_argument(
        "--no-s3-sigv2",
        action="store_true",
        help="refuse presigned URLs of signature version 2, which boto3 and awscli 1 make",
    )
    add_block_public_argument(parser, "")
    parser.add_argument(
        "--s3-access-log",
        metavar="FILE",
        type=Path,
        help="a line of JSON for each request, in FILE and up to three before it: 64 MiB at most",
    )
    parser.add_argument(
        "--s3-strict-aws",
        action="store_true",
        help="refuse with 501 the conditions on writes and the appends that octad takes and AWS "
        "does not",
    )
    parser.add_argument(
        "--body-budget",
        metavar="MIB",
        type=int,
        default=os.environ.get("OCTAD_BODY_BUDGET", BODY_BUDGET_BYTES // MIB),
        help="memory for the bodies that clients send, in MiB: who sends more at a time waits "
        f"(OCTAD_BODY_BUDGET; default: {BODY_BUDGET_BYTES // MIB})",
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """Options of the cluster, and of the node's identity."""
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        help="the name or address others reach it by (default: that of --listen)",
    )
    parser.add_argument(
        "--coordinator",
        metavar="URL[,URL...]",
        default=f"http://127.0.0.1:{DEFAULT_COORDINATOR_PORT}",
        help="the cluster's coordinators (default: %(default)s)",
    )
    parser.add_argument(
        "--coordinator-ca",
        metavar="FILE",
        help="who signed their certificates, where they are https:// (AWS_CA_BUNDLE; default: whom "
        "the system trusts)",
    )
    parser.add_argument(
        "--join-token",
        metavar="TOKEN",
        default=os.environ.get("OCTAD_JOIN_TOKEN"),
        help="as the first coordinator printed it (OCTAD_JOIN_TOKEN)",
    )
    parser.add_argument(
        "--id",
        metavar="N",
        type=int,
        help="the id a new node asks for (default: the next free one)",
    )
    parser.add_argument(
        "--zone", default="", help="what fails together with it: a machine, rack or site"
    )
    parser.add_argument(
        "--weight", type=float, default=1.0, help="its share of the data (default: 1)"
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--s3-tls-cert",
        metavar="FILE",
        type=Path,
        help="answer S3 with TLS (https) alone: the certificate and what leads to its authority "
        "(PEM); read again at SIGHUP",
    )
    parser.add_argument(
        "--s3-tls-key", metavar="FILE", type=Path, help="its key, without a password"
    )
    parser.add_argument(
        "--log-tls-cert",
        metavar="FILE",
        type=Path,
        help="serve topics with TLS (https) alone, as S3 with its certificate",
    )
    parser.add_argument(
        "--log-tls-key", metavar="FILE", type=Path, help="its key, without a password"
    )
    parser.add_argument(
        "--tls-cert",
        metavar="FILE",
        type=Path,
        help="TLS between nodes, with all three or none: this node's certificate (PEM)",
    )
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="its key, without a password")
    parser.add_argument(
        "--tls-ca", metavar="FILE", type=Path, help="who signed the certificates of all nodes"
    )


def add_domain_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """`--s3-domain`; `default` is what the help says of it."""
    parser.add_argument(
        "--s3-domain",
        metavar="DOMAIN",
        action="append",
        default=[],
        help="a bucket may be addressed as the host BUCKET.DOMAIN, and by path as ever; may be "
        f"given several times{default}",
    )


def add_block_public_argument(parser: argparse.ArgumentParser, whose: str) -> None:
    """`--s3-block-public`; `whose` is appended to its help."""
    parser.add_argument(
        "--s3-block-public",
        choices=("on", "off"),
        default="on",
        help="whether access lists of buckets that are made here mean nothing until somebody lifts "
        f"that for a bucket (octad bucket public, or S3){whose} (default: on)",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb is not None:
        return run_node_verb(arguments)
    if arguments.data is None:
        raise CommandError(
            "octad node: the following arguments are required: --data",
            "see: octad node --help",
            2,
        )
    from octad.storage_node.cli.node_config import NodeOptions
    from octad.storage_node.cli.node_process import run_node

    keep_files_private()
    supervisor, report = os.environ.get(SUPERVISOR_VARIABLE), os.environ.get(REPORT_VARIABLE)
    return run_node(
        NodeOptions(
            data=arguments.data,
            listen=arguments.listen,
            rpc_port=arguments.rpc_port,
            admin_listen=arguments.admin_listen,
            log_listen=arguments.log_listen,
            front_door=arguments.front_door,
            body_budget_mib=arguments.body_budget,
            sigv2_urls=not arguments.no_s3_sigv2,
            domains=s3_domains(arguments.s3_domain),
            blocks_public=arguments.s3_block_public == "on",
            strict_aws=arguments.s3_strict_aws,
            advertise=arguments.advertise,
            coordinator=arguments.coordinator,
            coordinator_ca=arguments.coordinator_ca,
            join_token=arguments.join_token,
            zone=arguments.zone,
            weight=arguments.weight,
            access_log=arguments.s3_access_log,
            s3_tls_cert=arguments.s3_tls_cert,
            s3_tls_key=arguments.s3_tls_key,
            log_tls_cert=arguments.log_tls_cert,
            log_tls_key=arguments.log_tls_key,
            tls_cert=arguments.tls_cert,
            tls_key=arguments.tls_key,
            tls_ca=arguments.tls_ca,
            wanted_id=arguments.id,
            nodes_on_disk=int(os.environ.get(ON_DISK_VARIABLE, "1")),
            supervisor_pid=int(supervisor) if supervisor else None,
            report_descriptor=int(report) if report else None,
        )
    )
