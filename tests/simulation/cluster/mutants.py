"""Planted bugs in the shells of a node: a simulation that does not find them proves nothing.

Each is a set of attributes replaced for the length of a run. `FOUND_BY` names a seed that finds it,
and the faults that it takes. Those in the rules are in `tests/simulation/mutants.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from octad.storage_node.history.history_writer import HistoryWriter
from octad.storage_node.index import counted_index
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal.commit_thread import CommitThread
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFailed
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.segment_file import SegmentFile
from octad.storage_node.replication.host import action_performer, index_applier, replica_recovery
from octad.storage_node.replication.host.action_performer import ActionPerformer
from octad.storage_node.replication.host.configuration_changes import ConfigurationChanges
from octad.storage_node.replication.host.log_writer import LogWriter
from octad.storage_node.replication.host.node_beats import NodeBeats
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.replication_receiver import ReplicationReceiver
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.writes import Write
from octad.storage_node.shards.retry import Patience
from octad.storage_node.shards.shard_service import ShardService

Patch = tuple[Any, str, Any]  # (owner, attribute, what stands there instead)


def _yes(*_: Any) -> bool:
    return True


def _nothing(*_: Any) -> None:
    return None


async def _nothing_soon(*_: Any) -> None:
    return None


# -- the journal -------------------------------------------------------------------------------


def _durable_when_sealed(journal: Journal) -> None:
    """Said as soon as a batch is handed over."""
    _seal(journal)
    if journal._started:
        journal._loop.call_soon(journal._on_durable, journal._sealed_to)


_seal = Journal._seal


def _failure_passed_over(thread: CommitThread, batch: Any) -> None:
    try:
        _sync(thread, batch)
    except OSError:
        return


_sync = CommitThread._sync


def _synced_without_writing(_: JournalRecovery, file: SegmentFile) -> None:
    file.sync()


def _from_the_end(log: LogWriter) -> Any:
    """A replay would begin behind what is not settled yet."""
    return log._journal.position()


def _fails_on_prepares(receiver: ReplicationReceiver, *args: Any) -> None:
    if receiver._journal._failure is not None:
        raise JournalFailed("the journal has failed")
    _on_prepares(receiver, *args)


_on_prepares = ReplicationReceiver._on_prepares


# -- the index ---------------------------------------------------------------------------------


def _change_without_before(
    digests: ShardDigests, shard: Any, seq: Any, key: bytes, before: Any, after: Any
) -> None:
    _change_object(digests, shard, seq, key, None, after)


_change_object = ShardDigests.change_object


# -- replicas ----------------------------------------------------------------------------------


async def _taken_for_lost(changes: ConfigurationChanges, batch: Any) -> None:
    """A transaction without an answer is taken to have failed, and is not fenced off."""
    try:
        await _swap(changes, batch)
    except Exception:
        changes._tell_outcomes(batch)


_swap = ConfigurationChanges._swap


def _proposed_anew(service: ShardService, shard: Any, write: Write) -> Any:
    """A later try has an id of its own."""
    if write.age_s:
        write = msgspec.structs.replace(write, request_id=os.urandom(16), age_s=0.0)
    return _propose(service, shard, write)


_propose = ShardService.propose


MUTANTS: dict[str, list[Patch]] = {
    "durable when it is handed over": [(Journal, "_seal", _durable_when_sealed)],
    "a failed sync is passed over": [(CommitThread, "_sync", _failure_passed_over)],
    "what a failed sync left in memory counts": [
        (JournalRecovery, "_write_again", _synced_without_writing)
    ],
    "a replay begins at the end": [(LogWriter, "replay_from", _from_the_end)],
    "a replay stops at the index's entries": [(replica_recovery, "state_entry", _nothing)],
    "a failed journal is a bug of the sender's message": [
        (ReplicationReceiver, "_on_prepares", _fails_on_prepares)
    ],
    "the start of a log is not journaled": [(LogWriter, "start_anew", _nothing)],
    "a split is not journaled": [(LogWriter, "split", _nothing)],
    "the index is ahead of the journal": [(counted_index, "not_ahead", lambda place, _: place)],
    "a backup applies what is not durable": [(index_applier, "_is_durable", _yes)],
    "live bytes are not counted": [(SpaceLedger, "count", _nothing)],
    "a digest counts what was replaced": [(ShardDigests, "change_object", _change_without_before)],
    "a log begins anew without its state": [(action_performer, "keep_state", _nothing)],
    "a copy is complete before it is flushed": [(HistoryWriter, "_flush_index", _nothing_soon)],
    "a copied row replaces a newer one": [(HistoryWriter, "_is_newer", _yes)],
    "an unknown swap is taken for lost": [(ConfigurationChanges, "_swap", _taken_for_lost)],
    "a node acts without a fence": [(ConfigurationChanges, "_fence_until_done", _nothing_soon)],
    "a half is made beside the unsplit shard": [(ReplicaTable, "_unsplit", _nothing)],
    "what was on a lost connection is not sent again": [(ShardHost, "on_connected", _nothing)],
    "a plan is not looked at": [(ShardHost, "on_plan", _nothing)],
    "answers to beats are not heard": [(NodeBeats, "on_answer", _nothing)],
    "a swap is not submitted": [(ConfigurationChanges, "submit", _nothing)],
    "abandoned requests wait for ever": [(index_applier.IndexApplier, "fail", _nothing)],
    "a retry looks young": [(Patience, "age_s", lambda _: 0.0)],
    "a retry has another id": [(ShardService, "propose", _proposed_anew)],
    "request ids do not outlive a restart": [(RequestIds, "take_found", lambda _: {})],
    "requests of the other half are taken": [(ShardHost, "covers", _yes)],
    "a failed index goes on": [(ActionPerformer, "index_failed", _nothing)],
}

KILLS = ("kill", "power_cut", "stop")
SYNCS = ("sync_error", "power_cut")
SPLITS = ("split", "kill", "cut_pair")
COPIES = ("wipe", "kill", "power_cut", "flush")
STORE = ("cut_from_store", "store_late", "store_slow", "cut_pair", "isolate", "kill")
INDEXES = ("damage_index", "flush", "kill")
NETWORK = ("cut_pair", "reset", "isolate", "kill")

FOUND_BY: dict[str, tuple[int, tuple[str, ...]]] = {
    "durable when it is handed over": (0, ()),
    "a failed sync is passed over": (0, SYNCS),
    "what a failed sync left in memory counts": (0, SYNCS),
    "a replay begins at the end": (0, KILLS),
    "a replay stops at the index's entries": (0, COPIES),
    "a failed journal is a bug of the sender's message": (0, SYNCS),
    "the start of a log is not journaled": (0, COPIES),
    "a split is not journaled": (0, SPLITS),
    "the index is ahead of the journal": (0, ("power_cut", "flush")),
    "a backup applies what is not durable": (0, COPIES),
    "live bytes are not counted": (0, ()),
    "a digest counts what was replaced": (0, ()),
    "a log begins anew without its state": (0, COPIES),
    "a copy is complete before it is flushed": (0, COPIES),
    "a copied row replaces a newer one": (0, COPIES),
    "an unknown swap is taken for lost": (0, STORE),
    "a node acts without a fence": (0, STORE),
    "a half is made beside the unsplit shard": (0, SPLITS),
    "what was on a lost connection is not sent again": (0, NETWORK),
    "a plan is not looked at": (0, SPLITS),
    "answers to beats are not heard": (0, ()),
    "a swap is not submitted": (0, ()),
    "abandoned requests wait for ever": (0, NETWORK),
    "a retry looks young": (0, KILLS),
    "a retry has another id": (0, KILLS),
    "request ids do not outlive a restart": (0, KILLS),
    "requests of the other half are taken": (0, SPLITS),
    "a failed index goes on": (0, INDEXES),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With the bug in this block."""
    before = [(owner, attribute, vars(owner)[attribute]) for owner, attribute, _ in MUTANTS[name]]
    for owner, attribute, instead in MUTANTS[name]:
        setattr(owner, attribute, instead)
    try:
        yield
    finally:
        for owner, attribute, was in before:
            setattr(owner, attribute, was)
