"""Options and requests that the placement verbs share.

Cheap to import, as every verb's module must be: the rest is loaded when the verb runs.
"""

from __future__ import annotations

import argparse
import os
import sys

from octad.client.cli.coordinator_option import add_coordinator_options


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the coordinator's address, the token and the output format."""
    add_coordinator_options(parser)
    parser.add_argument(
        "--join-token",
        metavar="TOKEN",
        default=os.environ.get("OCTAD_JOIN_TOKEN"),
        help="of the cluster, for changes (OCTAD_JOIN_TOKEN; else that of the octad dev in --data)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of all verbs that may move data."""
    add_connection_arguments(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="say moves and bytes, and change nothing"
    )
    parser.add_argument("--no-wait", action="store_true", help="do not show progress")


def add_throttle_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--moves", metavar="N", type=int, help="copies under way at a time (default: 8)"
    )
    parser.add_argument(
        "--moves-per-node", metavar="N", type=int, help="of them at one node (default: 2)"
    )
    parser.add_argument(
        "--fewer-zones", action="store_true", help="let copies share a zone that stand apart now"
    )


def request(action: str, arguments: argparse.Namespace, **fields: object) -> int:
    """Request `action`, print its effects, and follow it on a terminal."""
    import msgspec

    from octad.coordinator.cli.plan_client import client_of
    from octad.coordinator.cli.plan_report import follow, print_answer
    from octad.coordinator.schema.placement_messages import PlanRequest

    client = client_of(arguments)
    throttle = {
        "moves_max": getattr(arguments, "moves", None),
        "moves_per_node_max": getattr(arguments, "moves_per_node", None),
        "fewer_zones": getattr(arguments, "fewer_zones", False),
        "dry_run": arguments.dry_run,
    }
    wanted = msgspec.convert({**throttle, **fields}, PlanRequest)
    answer = client.ask(action, wanted)
    print_answer(answer, as_json=arguments.json)
    if arguments.json or arguments.no_wait:
        return 0
    return follow(client, answer, sys.stdout)
