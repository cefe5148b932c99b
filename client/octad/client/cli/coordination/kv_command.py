"""`octad kv`: read and change the settings that services share.

    octad kv get KEY
    octad kv put KEY VALUE [--if-revision N]     VALUE - reads standard input
    octad kv rm KEY [--if-revision N]
    octad kv ls [PREFIX]
    octad kv watch KEY                           a line for each new state, until Ctrl-C

Exit codes: 0 done, 1 refused, or no coordinator answers, 2 not understood, 4 there is no such key.
"""

from __future__ import annotations

import argparse
import sys

from octad.client.cli.coordinator_option import add_coordinator_options, coordinator_url
from octad.client.cli.token_option import add_token_option, asked_token


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="{get,put,rm,ls,watch}")
    get = actions.add_parser("get", help="print a value as it is")
    put = actions.add_parser("put", help="set a key")
    remove = actions.add_parser("rm", help="delete a key")
    listing = actions.add_parser("ls", help="list keys")
    watch = actions.add_parser("watch", help="print a key's value whenever it has changed")
    for action in (get, put, remove, watch):
        action.add_argument("key", metavar="KEY")
    put.add_argument("value", metavar="VALUE", help="- reads it from standard input")
    listing.add_argument("key", metavar="PREFIX", nargs="?", default="")
    for action in (put, remove):
        action.add_argument(
            "--if-revision",
            metavar="N",
            type=int,
            help="only if the key is at this revision; 0: only if it is not there",
        )
    for action in (get, put, remove, listing, watch):
        action.add_argument("--json", action="store_true", help="print JSON documents")
        add_token_option(action)
        add_coordinator_options(action)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.coordination.kv_calls import Asked, run_kv

    value = getattr(arguments, "value", "")
    return run_kv(
        Asked(
            action=arguments.action,
            key=arguments.key,
            value=sys.stdin.buffer.read() if value == "-" else value.encode(),
            if_revision=getattr(arguments, "if_revision", None),
            as_json=arguments.json,
            coordinator=coordinator_url(arguments),
            token=asked_token(arguments),
        )
    )
