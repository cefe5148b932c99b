"""`octad service`: register any service, and see which are there.

    octad service register NAME --addr HOST:PORT    until Ctrl-C
    octad service ls [NAME]
    octad service token                              what services need instead of the join token

Exit codes: 0 done (also after Ctrl-C), 1 refused or no coordinator answers, 2 not understood.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from octad.client.cli.coordinator_option import (
    add_coordinator_options,
    coordinator_url,
)
from octad.client.cli.token_option import add_token_option, asked_token
from octad.client.runtime.command import CommandError

if TYPE_CHECKING:
    from octad.client.cluster.service_records import InstanceCheck
    from octad.client.cluster.service_token import ServiceToken


_TTL_S_DEFAULT = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="{register,ls,token}")
    register = actions.add_parser("register", help="be there until Ctrl-C")
    register.add_argument("name", metavar="NAME", help="the service")
    register.add_argument(
        "--addr", metavar="HOST:PORT", required=True, help="where others reach this instance"
    )
    register.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=float,
        default=_TTL_S_DEFAULT,
        help="how long after its last sign of life it is taken for gone (default: 30)",
    )
    register.add_argument(
        "--instance", metavar="ID", help="its name, one for each process (default: its address)"
    )
    register.add_argument("--zone", default="", help="what fails together with it")
    register.add_argument("--weight", type=float, default=1.0, help="its share (default: 1)")
    register.add_argument("--version", default="", help="of the service")
    register.add_argument(
        "--label", metavar="NAME=VALUE", action="append", default=[], help="may be repeated"
    )
    register.add_argument(
        "--check",
        metavar="tcp | http:/PATH",
        help="let a coordinator look whether it answers, every --check-interval seconds",
    )
    register.add_argument("--check-interval", metavar="SECONDS", type=float, default=10.0)
    add_token_option(register)
    add_coordinator_options(register)
    listing = actions.add_parser("ls", help="list instances")
    listing.add_argument("name", metavar="NAME", nargs="?", help="of this service only")
    listing.add_argument(
        "--passing", action="store_true", help="only instances that are well and want work"
    )
    listing.add_argument("--zone", help="only those of this zone")
    listing.add_argument(
        "--label",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="only those with this label; may be repeated",
    )
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    add_coordinator_options(listing)
    token = actions.add_parser("token", help="print the token that lets services register only")
    token.add_argument(
        "--prefix",
        metavar="PREFIX",
        help="for services, locks and settings alone whose names begin with it, as in shop-",
    )
    add_token_option(token)
    token.add_argument(
        "--data",
        metavar="DIR",
        default="./octad-data",
        help="of an octad dev (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "ls":
        return _list(arguments)
    from octad.client.cluster.service_token import encode_service_token

    token = asked_token(arguments)
    if arguments.action == "token":
        print(encode_service_token(_narrowed(token, arguments.prefix)))
        return 0
    from octad.client.cli.service_registration import Asked, run_registration

    return run_registration(
        Asked(
            service=arguments.name,
            address=arguments.addr,
            instance=arguments.instance,
            ttl_s=arguments.ttl,
            zone=arguments.zone,
            weight=arguments.weight,
            version=arguments.version,
            labels=dict(_label(text) for text in arguments.label),
            check=_check(arguments.check, arguments.check_interval),
            coordinator=coordinator_url(arguments),
            token=token,
        )
    )


def _narrowed(token: ServiceToken, prefix: str | None) -> ServiceToken:
    from octad.client.cluster.join_token import BadJoinToken

    try:
        return token if prefix is None else token.narrowed(prefix)
    except BadJoinToken as error:
        raise CommandError(str(error), "correct --prefix or --token", 2) from error


def _check(text: str | None, interval_s: float) -> InstanceCheck | None:
    from octad.client.cluster.service_records import InstanceCheck

    if text is None:
        return None
    kind, _, path = text.partition(":")
    timeout_s = min(2.0, interval_s)
    if kind == "http":
        return InstanceCheck(
            kind="http", path=path or "/", interval_s=interval_s, timeout_s=timeout_s
        )
    if text == "tcp":
        return InstanceCheck(kind="tcp", interval_s=interval_s, timeout_s=timeout_s)
    raise CommandError(f"check {text!r} is neither tcp nor http:/PATH", "correct --check", 2)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"label {text!r} is not NAME=VALUE", "correct --label", 2)
    return name, value


def _list(arguments: argparse.Namespace) -> int:
    from urllib.parse import urlencode

    from octad.client.cli.service_table import service_table
    from octad.client.cluster.cluster_documents import ServicesDocument
    from octad.client.cluster.coordinator_reads import read_document, read_json
    from octad.client.cluster.service_records import SERVICES_PATH

    url = coordinator_url(arguments)
    wanted = [("label", "=".join(_label(text))) for text in arguments.label]
    if arguments.passing:
        wanted.append(("passing", "true"))
    if arguments.zone is not None:
        wanted.append(("zone", arguments.zone))
    query = f"?{urlencode(wanted)}" if wanted else ""
    if arguments.json:
        path = SERVICES_PATH if arguments.name is None else f"{SERVICES_PATH}/{arguments.name}"
        sys.stdout.write(read_json(url, path + query).decode() + "\n")
    else:
        everything = read_document(url, SERVICES_PATH + query, ServicesDocument)
        sys.stdout.write(service_table(everything, arguments.name, narrowed=bool(wanted)))
    return 0
