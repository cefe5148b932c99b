"""`octad rebalance`: give every node its share again, or steer what is under way.

Exit codes: 0 done, 1 refused or not reachable, 3 stopped by someone meanwhile.
"""

from __future__ import annotations

import argparse

from octad.coordinator.cli.plan_verbs import (
    add_request_arguments,
    add_throttle_arguments,
    request,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steering = parser.add_mutually_exclusive_group()
    steering.add_argument("--status", action="store_true", help="show what is under way")
    steering.add_argument("--stop", action="store_true", help="let nothing more move")
    steering.add_argument("--resume", action="store_true", help="go on after a stop")
    steering.add_argument("--revert", action="store_true", help="put everything back")
    add_request_arguments(parser)
    add_throttle_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.status:
        from octad.coordinator.cli.plan_client import client_of
        from octad.coordinator.cli.plan_report import print_status

        print_status(client_of(arguments).status(), as_json=arguments.json)
        return 0
    steering = [word for word in ("stop", "resume", "revert") if getattr(arguments, word)]
    return request(steering[0] if steering else "rebalance", arguments)
