"""`octad shards ls|split|recover`: every shard and where it is; twice as many; forced recovery.

Exit codes: 0 done, 1 refused or not reachable, 3 stopped by someone meanwhile.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from octad.coordinator.cli.plan_verbs import (
    add_connection_arguments,
    add_request_arguments,
    request,
)

if TYPE_CHECKING:
    from octad.coordinator.schema.recovery_messages import RecoverAnswer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    ls = verbs.add_parser("ls", help="list the shards, their state and their nodes")
    add_connection_arguments(ls)
    split = verbs.add_parser("split", help="twice as many shards; no byte moves")
    split.add_argument("--pool", metavar="N", type=int, help="which, where there are several")
    add_request_arguments(split)
    recover = verbs.add_parser(
        "recover", help="put an older copy in the place of nodes gone for good; may lose writes"
    )
    which = recover.add_mutually_exclusive_group(required=True)
    which.add_argument("shards", metavar="SHARD", nargs="*", default=[], help="as in 0/17")
    which.add_argument("--all", action="store_true", help="every shard that needs it")
    recover.add_argument("--yes", action="store_true", help="do it; without, only say what it is")
    add_connection_arguments(recover)


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb == "split":
        return request("split", arguments, pool=arguments.pool)
    if arguments.verb == "recover":
        return _recover(arguments)
    return _list(arguments)


def _list(arguments: argparse.Namespace) -> int:
    import msgspec

    from octad.client.cluster.cluster_documents import SHARDS_PATH, ShardsDocument
    from octad.coordinator.cli.plan_client import client_of

    document = client_of(arguments).get(SHARDS_PATH, ShardsDocument)
    if arguments.json:
        print(msgspec.json.encode(document).decode())
        return 0
    for shard in document.shards:
        others = ", ".join(name for name in shard.members if name != shard.primary)
        verified = "unverified" if shard.verified is None else f"{shard.verified} verified"
        where = f"{shard.primary} + {others}"
        print(f"{shard.name}  {shard.state}  {verified}  epoch {shard.epoch}  {where}")
    return 0


def _recover(arguments: argparse.Namespace) -> int:
    import msgspec

    from octad.coordinator.cli.plan_client import client_of
    from octad.coordinator.schema.recovery_messages import (
        RECOVER_PATH,
        RecoverAnswer,
        RecoverRequest,
    )

    wanted = RecoverRequest(tuple(arguments.shards), dry_run=not arguments.yes)
    answer = client_of(arguments).post(RECOVER_PATH, wanted, RecoverAnswer)
    if arguments.json:
        print(msgspec.json.encode(answer).decode())
    else:
        _print_recovery(answer)
    return 1 if answer.refused else 0


def _print_recovery(answer: RecoverAnswer) -> None:
    for shard in answer.recovered:
        print(
            f"{shard.name}: {shard.node} has everything up to seq {shard.upto}; what"
            f" {' '.join(shard.gone)} acknowledged since is lost"
        )
    for refused in answer.refused:
        print(f"{refused.name}: not recovered: {refused.reason}")
    if not answer.recovered:
        if not answer.refused:
            print("no shard needs it: each has a full member that is live")
        return
    given_up = sorted({node for shard in answer.recovered for node in shard.given_up})
    names = " ".join(given_up)
    print(f"copies on {names} are void from then on, also when it comes back with its disk")
    if answer.dry_run:
        gone = " ".join(sorted({node for shard in answer.recovered for node in shard.gone}))
        print(
            f"nothing is done yet: be sure that {gone} cannot run, then add --yes; cut off from the"
            " store alone, it would go on serving its clients beside the new copies"
        )
