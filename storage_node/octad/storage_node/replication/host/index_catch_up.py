"""Brings an index that was made from the journal up to what a running node has applied.

It is what a restart would do: states from the index, then the journal's records behind them, with
replicas of its own that take part in nothing. So the same code decides what the new index may show.
The node's replicas only add how much of the journal is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from octad.sharding.ids import NodeId, ShardId, shard_name
from octad.sharding.map.shard_map import Learner, ShardConfiguration
from octad.storage_node.index.counted_index import CountedIndex, not_ahead
from octad.storage_node.index.index_format import POSITION_KEY, encode_position
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.record_format import Location, Position, Record, start_of
from octad.storage_node.operations.index_changes import IndexChanges
from octad.storage_node.replication.host.index_applier import add_entries, state_entry
from octad.storage_node.replication.host.replica_recovery import recover_states, replay
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Actions, Apply, SplitLog
from octad.storage_node.replication.replica_state import Strength

_ANY_TIME = 0.0

log = logging.getLogger(__name__)


class _NoCluster:
    """Knows nothing of the cluster: nothing acts on it here."""

    def __init__(self) -> None:
        self.incarnations: dict[NodeId, str] = {}
        self.dead: dict[NodeId, bytes] = {}

    def strength(self, shard: ShardId) -> Strength | None:
        return None

    def plan(self, shard: ShardId, configuration: ShardConfiguration) -> Plan:
        raise AssertionError("there are no rows")

    def choose_spare(
        self, shard: ShardId, configuration: ShardConfiguration, useless: Collection[NodeId]
    ) -> Learner | None:
        raise AssertionError("there are no rows")


class _Durable:
    """The journal as far as it is durable, while it is being written."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.until = journal.durable_to

    @property
    def directory(self) -> Path:
        return self._journal.directory

    @property
    def disk(self) -> Disk:
        return self._journal.disk

    def replay(self, start: Position) -> Iterator[tuple[Location, Record]]:
        journal = self._journal
        self.until = journal.durable_to
        reading = (journal.disk, journal.directory, journal.identity, start, self.until)
        return JournalRecovery(*reading).records()


class CatchUp:
    """`read_on`, in a thread if it is much, then `complete`; again until that returns True.

    Each `read_on` begins where the one before ended, so that the last, right before `complete` and
    with nothing applied in between, is short whatever is written meanwhile.
    """

    def __init__(self, node: NodeId, journal: Journal, index: CountedIndex) -> None:
        self.index = index
        self._node = node
        self._journal = journal
        self._begin()

    def _begin(self) -> None:
        leases = PairLeases(self._node, 0, _ANY_TIME)
        self._table = ReplicaTable(self._node, "", leases, _NoCluster(), lambda _shard: None)

    def read_on(self) -> None:
        """Apply what the journal says is committed. Raises JournalDamage, OSError, IndexFailed."""
        self._begin()
        index, ids, journal = self.index, RequestIds(self.index), _Durable(self._journal)
        recover_states(self._table, index, ids, _ANY_TIME)
        replay(self._table, journal, index, ids, self._perform, _ANY_TIME)
        for replica in list(self._table.replicas.values()):
            self._perform(replica, replica.recovered())
        self._note_states(self._table.replicas.values())
        above = [entry for each in self._table.replicas.values() for entry in each.log.entries]
        places = [start_of(entry.location) for entry in above if entry.location is not None]
        self._note_position(min([journal.until, *places]))

    def complete(self, replicas: Collection[ShardReplica], replay_from: Position) -> bool:
        """Apply the rest of what `replicas` have applied, and take over their states.

        False: some of it was not in the journal yet.
        """
        lacking = [each.shard for each in replicas if not self._has_all_of(each)]
        if lacking:
            log.info("the new index still lacks entries of shard %s", shard_name(lacking[0]))
            return False
        for replica in replicas:
            mine = self._table.replicas.get(replica.shard)
            if mine is not None and mine.log.commit < replica.log.applied:
                self._perform(mine, mine.commit_to(replica.log.applied))
        self._note_states(replicas)
        self._note_position(not_ahead(replay_from, self._journal))
        return True

    def _has_all_of(self, replica: ShardReplica) -> bool:
        log, mine = replica.log, self._table.replicas.get(replica.shard)
        if mine is None:
            return log.applied == 0
        known = mine.log
        return (
            (known.start, known.start_epoch) == (log.start, log.start_epoch)
            and known.applied <= log.applied <= known.end
            and known.epoch_at(log.applied) == log.applied_epoch
        )

    def _perform(self, replica: ShardReplica, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Apply):
                changes = IndexChanges(self.index.get, self.index.digests)
                add_entries(changes, replica, action.entries, self.index.get)
                further = replica.on_applied(action.entries[-1].seq, _ANY_TIME)
                puts, deletes = changes.split()
                puts.append(state_entry(replica, self.index.digests))
                self.index.write(puts, deletes, changes.before)
                self._perform(replica, further)
            elif isinstance(action, SplitLog):
                self.index.digests.split(replica.shard, action.sibling)
                self._note_states([replica, self._table.split(action)])

    def _note_position(self, place: Position) -> None:
        self.index.write([(POSITION_KEY, encode_position(place))])

    def _note_states(self, replicas: Iterable[ShardReplica]) -> None:
        self.index.write([state_entry(replica, self.index.digests) for replica in replicas])
