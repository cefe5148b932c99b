"""Planted bugs in the shells of a node: a simulation that does not find them proves nothing.

Each is a set of attributes replaced for the length of a run. `FOUND_BY` names a seed that finds it,
and the faults that it takes. Those in the rules are in `tests/simulation/mutants.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from tests.simulation.cluster.faults.faults import LOSES

from octad.sharding.ids import Epoch, Seq
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.history.copy_check import CopyCheck
from octad.storage_node.history.history_source import HistorySource
from octad.storage_node.history.history_writer import HistoryWriter
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal.commit_thread import CommitThread
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.segment_file import SegmentFile
from octad.storage_node.node.index_succession import IndexSuccession
from octad.storage_node.operations.index_changes import IndexChanges
from octad.storage_node.operations.objects import DeleteObjects
from octad.storage_node.replication.host import (
    action_performer,
    index_applier,
    shard_host,
)
from octad.storage_node.replication.host.configuration_changes import ConfigurationChanges
from octad.storage_node.replication.host.log_writer import LogWriter
from octad.storage_node.replication.host.node_beats import NodeBeats
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.replication_sender import ReplicationSender
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.replica.log_ends import LogEnds
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_primary import Primary
from octad.storage_node.replication.replica_actions import SendAck
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.writes import Write
from octad.storage_node.rpc.peer_dialer import PeerDialer
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.shards import joint_deletions
from octad.storage_node.shards.object_store import StoreError
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


# -- the index ---------------------------------------------------------------------------------


def _count_without_deletes(ledger: SpaceLedger, puts: Any, _: Any, stored: Any, known: Any) -> None:
    _count(ledger, puts, (), stored, known)


_count = SpaceLedger.count


def _change_without_before(
    digests: ShardDigests, shard: Any, seq: Any, key: bytes, before: Any, after: Any
) -> None:
    _change_object(digests, shard, seq, key, None, after)


_change_object = ShardDigests.change_object


def _all_rows_but_the_first(message: Any) -> Any:
    return msgspec.structs.replace(message, rows=message.rows[1:])


async def _a_row_short(source: HistorySource, asked: Any) -> Any:
    return _all_rows_but_the_first(await _read_history(source, asked))


_read_history = HistorySource.read_history


# -- replicas ----------------------------------------------------------------------------------


def _proposed_anew(service: ShardService, shard: Any, write: Write) -> Any:
    """A later try has an id of its own."""
    if write.age_s:
        write = msgspec.structs.replace(write, request_id=os.urandom(16), age_s=0.0)
    return _propose(service, shard, write)


_propose = ShardService.propose


def _answered_when_it_is_ordered(host: ShardHost, shard: Any, write: Write) -> Any:
    """Before anyone else has it."""
    _order(host, shard, write).add_done_callback(lambda ordered: ordered.exception())
    done = host._loop.create_future()
    done.set_result((Epoch(0), Seq(0)))
    return done


_order = ShardHost.propose


def _acknowledged_to_the_end(sender: ReplicationSender, replica: Any, action: SendAck) -> None:
    upto = replica.log.end
    _ack(sender, replica, SendAck(action.node, upto, action.session, action.complete))


_ack = ReplicationSender.ack


def _ticket_for_anyone(host: ShardHost, shard: Any, key: bytes) -> Any:
    replica = host.replicas.get(shard)
    return None if replica is None else ReadTicket(replica.epoch, Seq(0))


def _all_but_the_last(changes: IndexChanges, operation: Any, *place: Any) -> None:
    if type(operation) is DeleteObjects:
        operation = DeleteObjects(operation.records[:-1])
    _apply_other(changes, operation, *place)


_apply_other = IndexChanges._apply_other


def _all_but_the_last_at_backups(changes: Any, replica: Any, entries: Any, stored: Any) -> None:
    applied = _apply_other if replica.leading else _all_but_the_last
    IndexChanges._apply_other = applied  # type: ignore[method-assign, assignment]
    try:
        _add_entries(changes, replica, entries, stored)
    finally:
        IndexChanges._apply_other = _apply_other  # type: ignore[method-assign]


_add_entries = index_applier.add_entries


def _a_refusal_is_a_deletion(*asked: Any) -> Any:
    begun = _begin_together(*asked)
    return None if isinstance(begun, StoreError) else begun


_begin_together = joint_deletions._begin


def _ordered_is_deleted(*asked: Any) -> Any:
    begun = _begin_together(*asked)
    if not isinstance(begun, asyncio.Future):
        return begun
    begun.add_done_callback(lambda done: done.cancelled() or done.exception())
    return None


async def _dialed_once(dialer: PeerDialer) -> None:
    connection = await dialer._dial()
    await connection.lost.wait()


def _act_on_what_was_given_up(history: ShardHistory, configuration: ShardConfiguration) -> None:
    _learn_recoveries(history, configuration)
    history.void = False


_learn_recoveries = ShardHistory.learn_recoveries


MUTANTS: dict[str, list[Patch]] = {
    "answered when it is ordered": [(ShardHost, "propose", _answered_when_it_is_ordered)],
    "acknowledged to the end of the log": [(ReplicationSender, "ack", _acknowledged_to_the_end)],
    "any node reads what it has": [
        (ShardHost, "begin_read", _ticket_for_anyone),
        (ShardHost, "read_holds", _yes),
    ],
    "a delete is taken for one of nothing": [(ShardService, "present", _nothing)],
    "a condition is not asked": [
        (Primary, "decide", lambda _primary, write, *_, **__: write),
    ],
    "a scan ends early and a copy is complete without its digest": [
        (HistorySource, "read_history", _a_row_short),
        (CopyCheck, "check", _nothing_soon),
    ],
    "durable when it is handed over": [(Journal, "_seal", _durable_when_sealed)],
    "a failed sync is passed over": [(CommitThread, "_sync", _failure_passed_over)],
    "what a failed sync left in memory counts": [
        (JournalRecovery, "_write_again", _synced_without_writing)
    ],
    "a replay begins at the end": [(LogWriter, "replay_from", _from_the_end)],
    "a split is not journaled": [(LogWriter, "split", _nothing)],
    "live bytes are not counted": [(SpaceLedger, "count", _count_without_deletes)],
    "a digest counts what was replaced": [(ShardDigests, "change_object", _change_without_before)],
    "a log begins anew without its state": [(action_performer, "keep_state", _nothing)],
    "a copy is complete before it is flushed": [(HistoryWriter, "_flush_index", _nothing_soon)],
    "a node acts without a fence": [(ConfigurationChanges, "_fence_until_done", _nothing_soon)],
    "a half is made beside the unsplit shard": [(ReplicaTable, "_unsplit", _nothing)],
    "answers to beats are not heard": [(NodeBeats, "on_answer", _nothing)],
    "a swap is not submitted": [(ConfigurationChanges, "submit", _nothing)],
    "a retry has another id": [(ShardService, "propose", _proposed_anew)],
    "what was given up takes part again": [
        (ShardHistory, "learn_recoveries", _act_on_what_was_given_up),
        (ShardConfiguration, "has_given_up", lambda *_: False),
    ],
    "request ids do not outlive a restart": [(RequestIds, "take_found", lambda _: {})],
    "a primary that has restarted asks no one": [(LogEnds, "allow", _yes)],
    "a new kind is ordered before all nodes know it": [
        (ShardService, "knows", _yes),
        (shard_host, "kinds_above", lambda _: frozenset()),
    ],
    "memory for a body is never given back": [(RequestContext, "give_memory_back", _nothing)],
    "a damaged index is not made anew": [(IndexSuccession, "_make_another", _nothing_soon)],
    "a lost connection is not dialed again": [(PeerDialer, "_keep_connected", _dialed_once)],
    "of several deletions the last is not done": [
        (IndexChanges, "_apply_other", _all_but_the_last)
    ],
    "of several deletions a backup does not do the last": [
        (index_applier, "add_entries", _all_but_the_last_at_backups)
    ],
    "deletions that are refused are told as done": [
        (joint_deletions, "_begin", _a_refusal_is_a_deletion)
    ],
    "deletions are told when they are ordered": [(joint_deletions, "_begin", _ordered_is_deleted)],
}

KILLS = ("kill", "power_cut", "stop")
SYNCS = ("sync_error", "power_cut")
SPLITS = ("split", "kill", "cut_pair")
COPIES = ("wipe", "kill", "power_cut", "flush")
INDEXES = ("damage_index", "flush", "kill")
LOSSES = (LOSES, "kill", "power_cut", "flush")
NETWORK = ("cut_pair", "reset", "isolate", "kill")

FOUND_BY: dict[str, tuple[int, tuple[str, ...]]] = {
    "what was given up takes part again": (7, LOSSES),
    "answered when it is ordered": (0, KILLS),
    "acknowledged to the end of the log": (1, ()),
    "any node reads what it has": (0, NETWORK),
    "a delete is taken for one of nothing": (0, ()),
    "a condition is not asked": (0, ()),
    "a scan ends early and a copy is complete without its digest": (0, COPIES),
    "durable when it is handed over": (0, ()),
    "a failed sync is passed over": (0, SYNCS),
    "what a failed sync left in memory counts": (0, SYNCS),
    "a replay begins at the end": (0, KILLS),
    "a split is not journaled": (0, SPLITS),
    "live bytes are not counted": (0, ()),
    "a digest counts what was replaced": (0, ()),
    "a log begins anew without its state": (0, COPIES),
    "a copy is complete before it is flushed": (0, COPIES),
    "a node acts without a fence": (0, ()),
    "a half is made beside the unsplit shard": (0, SPLITS),
    "answers to beats are not heard": (0, ()),
    "a swap is not submitted": (0, ()),
    "a retry has another id": (0, KILLS),
    "a new kind is ordered before all nodes know it": (0, ("upgrade", "kill")),
    "memory for a body is never given back": (0, ()),
    "a damaged index is not made anew": (0, INDEXES),
    "a lost connection is not dialed again": (0, NETWORK),
    "of several deletions the last is not done": (0, ()),
    "of several deletions a backup does not do the last": (0, ()),
    "deletions that are refused are told as done": (3, KILLS),
    "deletions are told when they are ordered": (13, KILLS),
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
