"""`octad shards ls|split`: every shard and where it is; twice as many of them.

Exit codes: 0 done, 1 refused or not reachable, 3 stopped by somebody meanwhile.
"""

from __future__ import annotations

import argparse

from octad.coordinator.shell.plan_verbs import (
    add_connection_arguments,
    add_request_arguments,
    request,
)

HELP = "list shards, or split all of a pool's in place"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    ls = verbs.add_parser("ls", help="list the shards, their state and their nodes")
    add_connection_arguments(ls)
    split = verbs.add_parser("split", help="twice as many shards; no byte moves")
    split.add_argument("--pool", metavar="N", type=int, help="which, where there are several")
    add_request_arguments(split)


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb == "split":
        return request("split", arguments, pool=arguments.pool)
    return _list(arguments)


def _list(arguments: argparse.Namespace) -> int:
    import msgspec

    from octad.client.core.cluster_documents import SHARDS_PATH, ShardsDocument
    from octad.coordinator.shell.plan_client import client_of

    document = client_of(arguments).get(SHARDS_PATH, ShardsDocument)
    if arguments.json:
        print(msgspec.json.encode(document).decode())
        return 0
    for shard in document.shards:
        others = ", ".join(name for name in shard.members if name != shard.primary)
        print(f"{shard.name}  {shard.state}  epoch {shard.epoch}  {shard.primary} + {others}")
    return 0
