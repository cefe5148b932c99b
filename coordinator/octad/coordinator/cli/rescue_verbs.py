"""`octad coordinator backup|restore|rebuild`: the configuration store, saved and made anew.

Exit codes: 0 done, 1 refused or not reachable, 2 not understood.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from octad.client.cli.coordinator_option import dev_join_token
from octad.client.runtime.command import CommandError

if TYPE_CHECKING:
    from octad.client.cluster.join_token import JoinToken
    from octad.coordinator.cli.rescue_store import RescueStore
    from octad.coordinator.recovery.store_rebuild import Rebuilt
    from octad.coordinator.schema.backup_format import StoreBackup


def add_rescue_verbs(parser: argparse.ArgumentParser) -> None:
    """Sub-verbs, none of which must be given; the chosen one is `arguments.verb`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=False)
    verbs.add_parser("new-token", help="print a join token for a cluster yet to be made")
    backup = verbs.add_parser("backup", help="save what the store holds of the cluster")
    restore = verbs.add_parser(
        "restore", help="fill a store from a backup and the nodes' configurations"
    )
    rebuild = verbs.add_parser("rebuild", help="fill a store from the nodes' configurations alone")
    for verb in (backup, restore):
        verb.add_argument("file", metavar="FILE", type=Path)
    for verb in (backup, restore, rebuild):
        store = verb.add_mutually_exclusive_group(required=True)
        store.add_argument("--etcd", metavar="URL[,URL...]", help="etcd's members")
        store.add_argument(
            "--data", metavar="DIR", type=Path, help="of an octad dev with a store of its own"
        )
        verb.add_argument(
            "--join-token",
            metavar="TOKEN",
            default=os.environ.get("OCTAD_JOIN_TOKEN"),
            help="of the cluster (OCTAD_JOIN_TOKEN)",
        )
    for verb in (restore, rebuild):
        verb.add_argument(
            "--node-data",
            metavar="DIR",
            type=Path,
            nargs="+",
            default=[],
            help="nodes' data directories, or cluster.kept files copied from them "
            "(default with --data: the nodes in it)",
        )
        verb.add_argument(
            "--from-nodes",
            metavar="URL[,URL...]",
            help="live nodes to ask for the same, by their admin ports",
        )
        verb.add_argument(
            "--without",
            metavar="NODE",
            nargs="+",
            default=[],
            help="nodes that are given up: what only they acknowledged is lost",
        )
        verb.add_argument(
            "--accept-loss", action="store_true", help="begin shards that no one knows anew, empty"
        )
        verb.add_argument(
            "--force", action="store_true", help="replace what the store holds of the cluster"
        )
        verb.add_argument("--dry-run", action="store_true", help="say what would be written")
    restore.add_argument(
        "--trust-backup",
        action="store_true",
        help="no shard's configuration has changed since the backup was made: ask no node",
    )


def run_rescue_verb(arguments: argparse.Namespace) -> int:
    """Raises CommandError."""
    if arguments.verb == "new-token":
        return _new_token()
    import asyncio

    from octad.coordinator.recovery.store_rebuild import RebuildRefused
    from octad.coordinator.store.interface import StoreUnavailable

    token = _token(arguments.join_token or (arguments.data and dev_join_token(arguments)))
    work = _backup if arguments.verb == "backup" else _rebuild
    try:
        return asyncio.run(_with_store(arguments, token, work))
    except RebuildRefused as error:
        raise CommandError(error.what, error.fix) from error
    except StoreUnavailable as error:
        raise CommandError(
            f"the store does not answer ({error})", "start it, or correct its address; then again"
        ) from error


def _new_token() -> int:
    from octad.client.cluster.join_token import encode_join_token
    from octad.coordinator.recovery.create_cluster import new_join_token

    print(encode_join_token(new_join_token()))
    return 0


def _token(text: str | None) -> JoinToken:
    from octad.client.cluster.join_token import BadJoinToken, decode_join_token

    if not text:
        raise CommandError(
            "the cluster's join token is needed", "give --join-token or OCTAD_JOIN_TOKEN", 2
        )
    try:
        return decode_join_token(text)
    except BadJoinToken as error:
        raise CommandError(str(error), "give --join-token as it was printed", 2) from error


async def _with_store(
    arguments: argparse.Namespace,
    token: JoinToken,
    work: Callable[[RescueStore, JoinToken, argparse.Namespace], Awaitable[int]],
) -> int:
    from octad.coordinator.cli.rescue_store import rescue_store

    async with rescue_store(arguments.etcd, arguments.data, token) as opened:
        return await work(opened, token, arguments)


async def _backup(opened: RescueStore, token: JoinToken, arguments: argparse.Namespace) -> int:
    from octad.coordinator.recovery.store_rescue import read_backup, write_backup_file

    backup = await read_backup(opened.store, token)
    try:
        write_backup_file(arguments.file, backup)
    except OSError as error:
        raise CommandError(
            f"cannot write {arguments.file}: {error.strerror}", "name another file"
        ) from error
    header = backup.header
    print(f"{arguments.file}: {header.keys} keys at revision {header.revision}")
    return 0


async def _rebuild(opened: RescueStore, token: JoinToken, arguments: argparse.Namespace) -> int:
    from octad.coordinator.recovery.store_rescue import check_may_fill, fill

    rebuilt = await _rebuilt(token, arguments)
    await check_may_fill(opened.store, token, force=arguments.force, alone=opened.alone)
    if not arguments.dry_run:
        await fill(opened.store, token, rebuilt)
    would = "would hold" if arguments.dry_run else "holds"
    print(f"the store {would} {len(rebuilt.entries)} keys, {rebuilt.shards} shards;"
          f" {rebuilt.newer_than_backup} configurations are newer than the backup's")  # fmt: skip
    for note in rebuilt.notes:
        print(f"  {note}")
    if not arguments.dry_run:
        print("Next: start octad dev again." if arguments.data else
              "Next: start the coordinators, then start every node again.")  # fmt: skip
    return 0


async def _rebuilt(token: JoinToken, arguments: argparse.Namespace) -> Rebuilt:
    from octad.coordinator.recovery.store_rebuild import rebuild
    from octad.coordinator.recovery.store_rescue import ask_nodes, read_backup_file, read_snapshots
    from octad.sharding.ids import parse_node_name

    backup: StoreBackup | None = None
    if arguments.verb == "restore":
        backup = read_backup_file(arguments.file)
    try:
        without = {parse_node_name(name) for name in arguments.without}
    except ValueError as error:
        raise CommandError(str(error), "correct --without", 2) from error
    directories: list[Path] = arguments.node_data
    if not directories and arguments.from_nodes is None and arguments.data is not None:
        directories = _nodes_of_dev(arguments.data)
    snapshots = read_snapshots(directories)
    if arguments.from_nodes is not None:
        snapshots += await ask_nodes(arguments.from_nodes, token)
    return rebuild(
        token.cluster,
        snapshots,
        backup,
        without,
        trust_backup=arguments.verb == "restore" and arguments.trust_backup,
        accept_loss=arguments.accept_loss,
    )


def _nodes_of_dev(data: Path) -> list[Path]:
    """Returns the directories of its nodes that have a snapshot."""
    from octad.coordinator.schema.cluster_snapshot import FILE_NAME

    return sorted(path.parent for path in data.glob(f"n*/{FILE_NAME}"))
