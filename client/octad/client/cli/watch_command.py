"""`octad watch`: what happens in the cluster, as it happens.

    octad watch                  nodes, services, shards, plans, the leader
    octad watch nodes            one kind, or any prefix: services/web/, shards/0/
    octad watch service web      one service

Exit codes: 0 stopped by Ctrl-C, 1 no coordinator answers, 2 not understood.
"""

from __future__ import annotations

import argparse

from octad.client.cli.coordinator_option import add_coordinator_options, coordinator_url


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="PREFIX | service NAME",
        nargs="*",
        help="nodes, services/web/, shards/0/, service web, … (default: everything)",
    )
    parser.add_argument(
        "--after", metavar="TOKEN", help="go on from this one, as --json printed it"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document for each change")
    add_coordinator_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.watch_output import Asked, run_watch

    return run_watch(
        Asked(tuple(arguments.what), arguments.after, arguments.json, coordinator_url(arguments))
    )
