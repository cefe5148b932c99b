"""`octad pool ls|create`: pools keep one to three copies; a bucket belongs to one.

Exit codes: 0 done, 1 refused or not reachable.
"""

from __future__ import annotations

import argparse

from octad.coordinator.cli.plan_verbs import (
    add_connection_arguments,
    add_request_arguments,
    request,
)
from octad.sharding.limits import REPLICAS_ALLOWED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    ls = verbs.add_parser("ls", help="list the pools")
    add_connection_arguments(ls)
    create = verbs.add_parser("create", help="make a pool")
    create.add_argument(
        "--replicas", type=int, choices=REPLICAS_ALLOWED, required=True, help="copies"
    )
    create.add_argument("--depth", metavar="P", type=int, help="2^P shards (default: 8)")
    add_request_arguments(create)


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb == "create":
        return request("create-pool", arguments, replicas=arguments.replicas, depth=arguments.depth)
    from octad.coordinator.cli.plan_client import client_of
    from octad.coordinator.cli.plan_report import print_pools
    from octad.coordinator.schema.placement_messages import PLAN_POOLS_PATH, PlacedPools

    print_pools(client_of(arguments).get(PLAN_POOLS_PATH, PlacedPools), as_json=arguments.json)
    return 0
