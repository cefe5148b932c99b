"""What is committed goes to the index: one batch a tick, with the states that say how far it goes.

A waiting write is answered only after its changes are in the index, so that a client that is
told of a write also reads it. At a backup, where no one waits, a batch gathers for some
milliseconds. An entry is never applied before it is durable here: a learner hears of commit points
that its own disk has not reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from octad.client.runtime.steady_clock import now
from octad.sharding import limits
from octad.sharding.ids import Seq, ShardId
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import (
    POSITION_KEY,
    encode_position,
    encode_value,
    shard_state_key,
)
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.journal.record_format import Position, RecordKind
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_behind_copy import Stored, add_behind_copy
from octad.storage_node.operations.index_changes import IndexChanges, Refused
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Actions, AlreadyRefused, SplitLog
from octad.storage_node.replication.shard_log import Entry


class WriteFailed(Exception):
    """The write was not committed in time or cannot be now: unknown outcome."""


class IndexApplier:
    """See the module. `perform` carries out what a replica wants when its entries are applied."""

    def __init__(
        self,
        index: CountedIndex,
        replay_from: Callable[[], Position],
        request_ids: RequestIds,
        perform: Callable[[ShardReplica, Actions], None],
        make_half: Callable[[ShardReplica, SplitLog], ShardReplica],
        on_complete: Callable[[ShardId, Seq], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._index = index
        self._replay_from = replay_from
        self._request_ids = request_ids
        self._perform = perform
        self._make_half = make_half
        self._on_complete = on_complete
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Entry, tuple[asyncio.Future[Version], float]] = {}
        self._applying: list[tuple[ShardReplica, tuple[Entry, ...]]] = []
        self._later: list[tuple[ShardReplica, tuple[Entry, ...]]] = []  # No one waits.
        self._apply_planned = False
        self._later_timer: asyncio.TimerHandle | None = None
        self._failed = False
        self._recovering = True  # Where a replay has to begin is not known before it has ended.
        self._next_applied: asyncio.Future[None] | None = None
        self._watched: dict[bytes, set[asyncio.Future[None]]] = {}
        # Who is told of entries of a kind before they are applied, and let go of their data.
        self.notes: dict[RecordKind, Callable[[Entry], None]] = {}

    def close(self) -> None:
        """Apply what is committed, fail what waits; nothing is applied any more."""
        if not self._recovering and not self._failed:
            self.apply_all()
        if self._later_timer is not None:
            self._later_timer.cancel()
        self.fail(list(self._waiting), "the node is stopping")

    # -- those who wait ------------------------------------------------------------------------

    def wait_for(self, entry: Entry) -> asyncio.Future[Version]:
        """Ends when `entry` is committed and in the index; returns its version.

        Raises WriteFailed, and AlreadyRefused when that is what the entry says.
        """
        known = self._waiting.get(entry)
        if known is not None:
            return asyncio.shield(known[0])
        future: asyncio.Future[Version] = self._loop.create_future()
        self._waiting[entry] = (future, self._loop.time() + limits.WRITE_TIMEOUT_S)
        return future

    def fail_overdue(self) -> None:
        """Callers that have waited too long learn that the outcome is unknown."""
        moment = self._loop.time()
        overdue = [entry for entry, (_, deadline) in self._waiting.items() if deadline < moment]
        self.fail(overdue, "not all members answered in time")

    def fail(self, entries: list[Entry], why: str) -> None:
        """This node can no longer say whether they are committed."""
        for entry in entries:
            waiter = self._waiting.pop(entry, None)
            if waiter is not None and not waiter[0].done():
                waiter[0].set_exception(WriteFailed(why))

    async def applied(self) -> None:
        """Returns when the index next changes, or after a short while."""
        if self._next_applied is None or self._next_applied.done():
            self._next_applied = self._loop.create_future()
        await asyncio.wait([self._next_applied], timeout=limits.WRITE_TIMEOUT_SWEEP_S)

    async def touched(self, key: bytes, timeout_s: float) -> None:
        """Returns when an entry that touches `key` is next applied, or after `timeout_s`."""
        future: asyncio.Future[None] = self._loop.create_future()
        watching = self._watched.setdefault(key, set())
        watching.add(future)
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            watching.discard(future)
            if not watching and self._watched.get(key) is watching:
                del self._watched[key]

    def behind(self) -> set[ShardReplica]:
        """Replicas whose committed entries are not all in their rows yet."""
        return {replica for replica, _ in (*self._applying, *self._later)}

    # -- entries -------------------------------------------------------------------------------

    def recovered(self) -> None:
        """The replay has ended."""
        self._recovering = False

    def plan(self, replica: ShardReplica, entries: tuple[Entry, ...]) -> None:
        """At the primary a client waits for it; elsewhere a few milliseconds make larger batches.

        Until then the keys are dirty, so a read of them asks the primary.
        """
        if replica.primary.leading:
            self._applying.append((replica, entries))
            if not self._apply_planned:
                self._apply_planned = True
                self._loop.call_soon(self._apply_now)
            return
        self._later.append((replica, entries))
        if self._later_timer is None:
            self._plan_later()

    def apply_all(self) -> None:
        """Everything that is committed, now: a shard's later entries may come another way."""
        if self._later_timer is not None:
            self._later_timer.cancel()
            self._later_timer = None
        later, self._later = self._later, []
        ready = [each for each in later if self._recovering or _is_durable(*each)]
        if len(ready) < len(later):  # Each shard's entries stay in order.
            blocked = {replica for replica, entries in later if not _is_durable(replica, entries)}
            ready = [each for each in later if each[0] not in blocked]
            self._later = [each for each in later if each[0] in blocked]
            self._plan_later()
        if ready:
            self._apply(ready)

    def _plan_later(self) -> None:
        self._later_timer = self._loop.call_later(limits.ANNOUNCE_DELAY_S, self.apply_all)

    def _apply_now(self) -> None:
        self._apply_planned = False
        applying, self._applying = self._applying, []
        self._apply(applying)

    def _apply(self, applying: list[tuple[ShardReplica, tuple[Entry, ...]]]) -> None:
        """Apply all or nothing; after a failure nothing more: later entries would hide the gap."""
        if self._failed:
            return
        try:
            self._write(applying)
        except Exception as error:  # RocksDB's read errors have no class of their own.
            if self._recovering:
                raise
            self._failed = True
            self._on_failed(error)

    def _write(self, applying: list[tuple[ShardReplica, tuple[Entry, ...]]]) -> None:
        """Write them to the index in one batch with the states that cover them."""
        index_changes = IndexChanges(self._index.get, self._index.digests)
        changed: dict[ShardReplica, None] = {}
        wishes: list[tuple[ShardReplica, Actions]] = []
        moment = now()
        for replica, entries in applying:
            self._add_rows(index_changes, replica, entries)
            self._request_ids.note(replica.shard, entries)
            history = replica.history
            lacked = history.complete_to is not None
            actions = replica.on_applied(entries[-1].seq, moment)
            if lacked and history.complete_to is None:
                self._on_complete(replica.shard, entries[-1].seq)
            if actions:
                wishes.append((replica, actions))
                # The state of a shard that is split goes with that of its other half.
                halves = [each for each in actions if isinstance(each, SplitLog)]
                changed |= {self._make_half(replica, split): None for split in halves}
            changed[replica] = None
        puts, deletes = index_changes.split()
        puts += [state_entry(replica, self._index.digests) for replica in changed]
        if not self._recovering:
            puts.append((POSITION_KEY, encode_position(self._replay_from())))
        self._index.write(puts, deletes, index_changes.before)
        self._answer(applying)
        for replica, actions in wishes:
            self._perform(replica, actions)
        for replica in changed:
            if replica.primary.leading:  # Members that learn the commit point have clean keys.
                self._perform(replica, replica.announcement())

    def _add_rows(
        self, changes: IndexChanges, replica: ShardReplica, entries: tuple[Entry, ...]
    ) -> None:
        """A damaged index is not touched: the journal has the entries for the next one."""
        notes = self.notes
        for entry in entries:
            note = notes.get(entry.kind)
            if note is not None:
                note(entry)
            entry.data = None  # The journal has it; the entry waits for all that came before it.
        if self._index.damage is not None and not self._recovering:
            return
        try:
            add_entries(changes, replica, entries, self._index.get)
        except IndexDamage:
            if self._recovering:
                raise

    def _answer(self, applied: list[tuple[ShardReplica, tuple[Entry, ...]]]) -> None:
        waiting = self._waiting
        if waiting:
            for _, entries in applied:
                for entry in entries:
                    waiter = waiting.pop(entry, None)
                    if waiter is not None and not waiter[0].done():
                        operation = entry.operation
                        if type(operation) is Refused:
                            waiter[0].set_exception(AlreadyRefused(operation.code))
                        else:
                            waiter[0].set_result((entry.epoch, entry.seq))
        if self._next_applied is not None and not self._next_applied.done():
            self._next_applied.set_result(None)
        if self._watched:
            for _, entries in applied:
                for entry in entries:
                    for key in entry.touched:
                        for future in self._watched.pop(key, ()):
                            future.set_result(None)


def add_entries(
    changes: IndexChanges, replica: ShardReplica, entries: tuple[Entry, ...], stored: Stored
) -> None:
    """Add what `entries` do to the rows of their shard, even if older history is missing."""
    shard, complete = replica.shard, replica.history.complete_to is None
    for entry in entries:
        location, epoch, seq = entry.location, entry.epoch, entry.seq
        assert location is not None
        if complete:
            changes.apply(entry.operation, location, shard, epoch, seq)
        else:
            add_behind_copy(changes, shard, entry.operation, location, epoch, seq, stored)


def state_entry(replica: ShardReplica, digests: ShardDigests) -> tuple[bytes, bytes]:
    """What the index keeps of a replica, to be written with the rows that it describes.

    While history is missing, copied rows are written without a state, which has no digest then.
    """
    kept, history = replica.log, replica.history
    digest, usage_known = digests.stand_at(replica.shard, kept.applied)
    state = ShardState(
        Seq(kept.applied),
        kept.applied_epoch,
        history.acted_epoch,
        kept.start,
        kept.start_epoch,
        history.complete_to,
        history.copied_as_of,
        replica.splitter.depth,
        digest if history.complete_to is None else None,
        usage_known,
    )
    return shard_state_key(replica.shard), encode_value(state)


def keep_state(index: CountedIndex, replica: ShardReplica) -> None:
    """Write how far the rows of its shard go, and what they amount to."""
    index.write([state_entry(replica, index.digests)])


def _is_durable(replica: ShardReplica, entries: tuple[Entry, ...]) -> bool:
    return entries[-1].seq <= replica.log.durable
