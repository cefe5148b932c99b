"""Performs the actions of a node's replicas: each goes to the part that can do it.

    Append, StartLog, SplitLog ─ `log_writer.py`       Send… ─ `replication_sender.py`
    Apply, FlushIndex ─ `index_applier.py`             Copy ─ those who copy history
    SubmitSwap, Refetch ─ the configuration store         Abandon ─ callers are told

It decides nothing. A disk that fails ends the node, because the replica is then ahead of the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from octad.sharding.ids import Seq, ShardId, shard_name
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexFailed
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFailed, JournalFull
from octad.storage_node.replication.host.index_applier import IndexApplier, keep_state, state_entry
from octad.storage_node.replication.host.log_writer import LogWriter
from octad.storage_node.replication.host.node_beats import NodeBeats
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.replication_sender import Outbox, ReplicationSender
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    Abandon,
    Action,
    Append,
    Apply,
    Copy,
    FlushIndex,
    Refetch,
    SendAck,
    SendCommit,
    SendJoin,
    SendLogEnd,
    SendNack,
    SendPrepare,
    SendSession,
    SplitLog,
    StartLog,
    SubmitSwap,
)
from octad.storage_node.replication.shard_ports import Configurations, Histories, ShardEvents

log = logging.getLogger(__name__)


class ActionPerformer:
    """See the module. `shards` learns of configurations that a split revealed, and of copies."""

    def __init__(
        self,
        table: ReplicaTable,
        journal: Journal,
        index: CountedIndex,
        outbox: Outbox,
        beats: NodeBeats,
        configurations: Configurations,
        histories: Histories,
        shards: ShardEvents,
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._table = table
        self._leases = table.leases
        self._index = index
        self._beats = beats
        self._configurations = configurations
        self._histories = histories
        self._shards = shards
        self._on_failed = on_failed
        self.logs = LogWriter(journal)
        self.mail = mail = ReplicationSender(outbox, asyncio.get_running_loop(), self.logs.data_of)
        self.request_ids = RequestIds(index)
        self.applier = IndexApplier(
            index,
            self.logs.replay_from,
            self.request_ids,
            self.perform,
            self._make_half,
            self.on_complete,
            self.cannot_go_on,
        )
        performers: list[tuple[type[Action], Callable[[ShardReplica, Any], None]]] = [
            (Append, self.logs.append),
            (Apply, self._apply),
            (SendPrepare, mail.prepare),
            (SendAck, mail.ack),
            (SendCommit, mail.commit_point),
            (SendNack, mail.nack),
            (SendLogEnd, mail.log_end),
            (SendJoin, mail.join),
            (SendSession, mail.session),
        ]
        self._performers = defaultdict(lambda: self._perform_rare, performers)
        self._recovering = True
        self._became_complete: list[ShardId] = []  # During the recovery.

    def recovered(self, replicas: list[ShardReplica]) -> None:
        """The replay has ended."""
        self.logs.recovered([entry for each in replicas for entry in each.log.entries])
        self.applier.recovered()

    def end_recovery(self) -> list[ShardId]:
        """Do what follows from the replay; returns the shards that it made complete."""
        self._recovering = False
        return self._became_complete

    def close(self) -> None:
        """Fail what waits; nothing is performed any more."""
        self.applier.close()
        self.mail.close()
        if not self._recovering and self._index.failure is None:
            # Otherwise it is unknown how far the rows go.
            self.before_flush()

    def before_flush(self) -> None:
        """The index is about to be flushed."""
        self.request_ids.save(self.logs.replay_from())

    def perform(self, replica: ShardReplica, actions: list[Action]) -> None:
        performers = self._performers
        try:
            for action in actions:
                performers[type(action)](replica, action)
        except (JournalFull, JournalFailed) as error:
            # Never for a client's write: room is made for those first. The replica is ahead of its
            # disk.
            self.cannot_go_on(error)
        except IndexFailed as error:
            self.cannot_go_on(error)
        if self._leases.beat_soon:
            self._beats.send_news()

    def on_complete(self, shard: ShardId, applied: Seq) -> None:
        """Its replica has all of history now. No one copies yet while the node recovers."""
        if self._recovering:
            self._became_complete.append(shard)
        else:
            self._histories.forget_marks(shard, applied)

    def cannot_go_on(self, error: Exception) -> None:
        """What is on the disk is older than the replicas believe, so they decide nothing more.

        The node's end may take a while; the others do without it meanwhile.
        """
        for replica in self._table.replicas.values():
            if not replica.failed:
                self.perform(replica, replica.fail())
        self._on_failed(error)

    def _apply(self, replica: ShardReplica, action: Apply) -> None:
        self.applier.plan(replica, action.entries)

    def _perform_rare(self, replica: ShardReplica, action: Action) -> None:
        match action:
            case StartLog():
                self.logs.start_anew(replica, action)
                keep_state(self._index, replica)
            case SplitLog():
                self._split_log(replica, action)
            case FlushIndex():
                keep_state(self._index, replica)
                if self._index.damage is None:
                    self.before_flush()  # Only after a recovery by force, so blocking is all right.
                    self._index.flush()
            case Copy():
                self._begin_copy(replica, action)
            case SubmitSwap(swap=swap):
                self._configurations.submit(replica.shard, swap)
            case Refetch():
                self._configurations.refetch(replica.shard)
            case Abandon(entries=entries):
                self.applier.fail(list(entries), "the shard's configuration changed")
            case _:
                raise AssertionError(action)

    def _begin_copy(self, replica: ShardReplica, action: Copy) -> None:
        """The shard with the fewest copies goes first."""
        shard, configuration = replica.shard, replica.configuration
        assert configuration is not None
        full = sum(member.base == 0 for member in configuration.members)
        self._histories.begin(
            self._shards, shard, configuration.depth, action.start, action.sources, full
        )

    def _make_half(self, replica: ShardReplica, action: SplitLog) -> ShardReplica:
        """Rule R18: a record before any later one of either half; the states of both at once."""
        if action.sibling not in self._table.replicas:
            if not self._recovering:
                self.logs.split(replica, action)  # First: where it fails, nothing has been split.
                self.request_ids.note_copied(action.sibling, action.log.requests.pairs())
                self._histories.cancel(replica.shard)
            log.info("shard %s is split here behind seq %d", shard_name(replica.shard), action.seq)
            self._index.digests.split(replica.shard, action.sibling)
        return self._table.split(action)

    def _split_log(self, replica: ShardReplica, action: SplitLog) -> None:
        sibling = self._make_half(replica, action)
        digests = self._index.digests
        self._index.write([state_entry(replica, digests), state_entry(sibling, digests)])
        if self._recovering:
            return
        configuration = self._table.configuration_of_half(action)
        if configuration is None:
            self._configurations.refetch(sibling.shard)
        else:
            self._shards.on_configuration(sibling.shard, configuration)
