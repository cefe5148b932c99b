"""Messages of a node that cannot start or go on: the cause, the effect on data, the command.

Nothing is decided or read here. No message advises to delete intact data: a directory that the
node cannot use is moved aside, and the node then comes back as a new one, which the others fill.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Collection
from pathlib import Path

from octad.client.runtime.command import CommandError
from octad.client.runtime.open_files import more_open_files, none_left
from octad.coordinator.recovery.filling_anew import Obstacle
from octad.sharding.ids import NodeId, ShardId, node_name, shard_name
from octad.storage_node.journal.journal_errors import JournalDamage

NOT_FOR_OTHERS = (
    "the disk refuses to read its journal, or it is not damage that keeps octad from it"
)
_SHARDS_NAMED_MAX = 3
# Errors that only a disk, its cable or its file system causes.
_DISK_ERRORS = {
    getattr(errno, name)
    for name in ("EIO", "ENXIO", "ENODEV", "EREMOTEIO", "EUCLEAN", "EBADMSG", "ESTALE")
    if hasattr(errno, name)
}


def move_aside(data: Path) -> str:
    """The command for a directory that its node cannot use, and its effect."""
    there = shlex.quote(str(data))
    return f"mv {there} {there}.damaged: its next start makes it a new node, which the others fill"


def is_disk_error(error: OSError) -> bool:
    """Whether the disk itself refused, and not a limit, a permission or the network."""
    return error.errno in _DISK_ERRORS


def said_by_disk(error: OSError) -> str:
    """`/data/LOCK: Input/output error`."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return f"{error.filename}: {why}" if error.filename else why


def is_foreseen(error: Exception) -> bool:
    """Whether its own words tell what happened: not those of a bug, or of a library."""
    return isinstance(error, OSError) or type(error).__module__.startswith("octad.")


def said_of(error: Exception) -> str:
    """`KeyError: 17` where the words of the error alone would say too little."""
    if isinstance(error, OSError):
        return said_by_disk(error)
    return str(error) if is_foreseen(error) else f"{type(error).__name__}: {error}"


def cannot_start(node: NodeId | None, data: Path, error: Exception) -> CommandError:
    """The failure for an error at the start; `node` if known from the directory."""
    who = "this node" if node is None else node_name(node)
    if isinstance(error, OSError) and is_disk_error(error):
        return CommandError(
            f"{who} cannot start: the disk under {data} fails ({said_by_disk(error)}); what is on"
            " it is lost only as far as no other node has a copy (octad doctor tells)",
            f"replace the disk, or {move_aside(data)}",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CommandError(
            f"{who} cannot start: the disk under {data} is full; what is on it is intact",
            "make room there, and start it again (octad dev does so by itself)",
        )
    fix = more_open_files() if none_left(error) else f"look at the disk under {data}"
    return CommandError(f"{who} cannot start: {said_of(error)}", fix)


def cannot_go_on(node: NodeId, data: Path, failure: Exception) -> CommandError:
    """For what ended a running node."""
    again = more_open_files() if none_left(failure) else f"look at the disk under {data}"
    return CommandError(
        f"{node_name(node)} cannot go on: {said_of(failure)};"
        " what it has acknowledged was on the disk before",
        f"start it again; if it ends again, {again}",
    )


def journal_damaged(
    node: NodeId,
    data: Path,
    damage: JournalDamage,
    only_here: Collection[ShardId] | None,
    obstacle: Obstacle,
) -> CommandError:
    """`only_here`: the shards that no other node has a complete copy of; None: not known.

    `obstacle`: why the others do not fill the node anew, now.
    """
    who = f"{node_name(node)} cannot start: {damage.what}"
    if damage.fix:
        return CommandError(who, damage.fix)
    if only_here:
        return CommandError(
            f"{who}; no other node has a complete copy of {_shards(only_here)}, so keep this disk",
            "put the file back from a copy; if there is none: octad shards recover --all says what"
            " would be lost without this node",
        )
    others = (
        "other nodes have complete copies of all its shards, so nothing is lost"
        if only_here is not None
        else "octad doctor tells whether other nodes have copies of all its shards"
    )
    if obstacle.passes:
        return CommandError(
            f"{who}; {others}",
            "keep the other nodes running, and start those that are away: they fill it anew by"
            f" themselves at one of its next starts; in the way now: {obstacle.why}",
        )
    so = f"{who}; {others}; they do not fill it anew by themselves: {obstacle.why}"
    return CommandError(so, move_aside(data))


def _shards(shards: Collection[ShardId]) -> str:
    """`2 shards (0/1, 0/5)`."""
    names = ", ".join(map(shard_name, sorted(shards)[:_SHARDS_NAMED_MAX]))
    more = ", …" if len(shards) > _SHARDS_NAMED_MAX else ""
    return f"{len(shards)} shard{'' if len(shards) == 1 else 's'} ({names}{more})"
