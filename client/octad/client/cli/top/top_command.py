"""`octad top`: requests, times, bytes of each node and operation, again and again.

On a terminal until Ctrl-C; elsewhere one table, or `--count` of them.

Exit codes: 0 done, also by Ctrl-C, 1 no coordinator answers, 2 not understood.
"""

from __future__ import annotations

import argparse
import sys

from octad.client.cli.coordinator_option import add_coordinator_options, coordinator_url

_INTERVAL_S_MIN = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", metavar="SECONDS", type=float, default=2.0, help="default: 2")
    parser.add_argument("--count", metavar="N", type=int, help="how many times, then end")
    parser.add_argument("--json", action="store_true", help="print a JSON document each time")
    add_coordinator_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.top.sampling import show

    url = coordinator_url(arguments)
    count = arguments.count
    live = sys.stdout.isatty() and not arguments.json
    if count is None and not live:
        count = 1
    try:
        show(
            url,
            max(arguments.interval, _INTERVAL_S_MIN),
            count,
            as_json=arguments.json,
            live=live,
        )
    except KeyboardInterrupt:
        return 0
    return 0
