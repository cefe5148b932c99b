"""`octad node ls|add|drain|remove`: which nodes hold data. (`octad node --data …` runs one.)"""

from __future__ import annotations

import argparse

from octad.coordinator.cli.plan_verbs import (
    add_connection_arguments,
    add_request_arguments,
    add_throttle_arguments,
    request,
)


def add_node_verbs(parser: argparse.ArgumentParser) -> None:
    """Sub-verbs, none of which must be given; the chosen one is `arguments.verb`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=False)
    ls = verbs.add_parser("ls", help="list the nodes and what they hold")
    add_connection_arguments(ls)
    add = verbs.add_parser("add", help="give nodes their share, or another weight or zone")
    add.add_argument("names", metavar="NODE", nargs="+", help="like n4")
    add.add_argument("--weight", type=float, help="its share of the data, beside others'")
    add.add_argument("--zone", help="what fails together with it")
    drain = verbs.add_parser("drain", help="move everything off nodes, or off a zone")
    drain.add_argument("names", metavar="NODE", nargs="*", help="like n2")
    drain.add_argument("--zone", help="every node in this zone")
    remove = verbs.add_parser("remove", help="forget nodes that are empty and stopped")
    remove.add_argument("names", metavar="NODE", nargs="+", help="like n2")
    for verb in (add, drain, remove):
        add_request_arguments(verb)
    for verb in (add, drain):
        add_throttle_arguments(verb)


def run_node_verb(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 done, 1 refused or not reachable, 3 stopped by someone meanwhile."""
    if arguments.verb == "ls":
        from octad.coordinator.cli.plan_client import client_of
        from octad.coordinator.cli.plan_report import print_nodes
        from octad.coordinator.schema.placement_messages import PLAN_NODES_PATH, PlacedNodes

        nodes = client_of(arguments).get(PLAN_NODES_PATH, PlacedNodes)
        print_nodes(nodes, as_json=arguments.json)
        return 0
    fields: dict[str, object] = {"nodes": arguments.names}
    if arguments.verb in ("add", "drain"):
        fields["zone"] = arguments.zone
    if arguments.verb == "add":
        fields["weight"] = arguments.weight
    return request(arguments.verb, arguments, **fields)
