"""One running process of a node: the shell of the replicas, with everything that can go wrong.

A restart makes another `Process` on the same disk. Time is the node's own clock.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from tests.simulation.model.node_disk import NodeDisk, Record
from tests.simulation.model.simulated_copies import (
    ask_for_copy,
    serve_copy,
    serve_repair,
    take_copy,
    take_repair,
)

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import Learner, ShardConfiguration
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import DeleteObject, PutObject
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica.shard_splitter import ancestors
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
    Swap,
)
from octad.storage_node.replication.shard_log import Entry, ShardLog

if TYPE_CHECKING:
    from tests.simulation.model.world import World

TIMER_S = 0.25


class Process:
    """See the module."""

    def __init__(self, world: World, node: NodeId, disk: NodeDisk, boot: int) -> None:
        self.world = world
        self.id = node
        self.disk = disk
        self.running = True
        self.paused_until = 0.0
        self.newer = world.is_newer(node)  # It runs the version that knows more fields.
        self.leases = PairLeases(node, boot, world.clock(node))
        self.fence = 0
        self.fenced = False
        self.replicas: dict[ShardId, ShardReplica] = {}
        self.configurations: dict[ShardId, ShardConfiguration] = {}  # As the front door routes.
        self.waiting: dict[Entry, list[Any]] = {}
        self.refusals: list[Any] = []
        self.listings: list[Any] = []
        self.copies: dict[ShardId, list[Any]] = {}
        self.held: dict[ShardId, ShardConfiguration] = {}  # They wait until the log here is split.
        self.recovering = True
        self.rowless = False  # The index is damaged: `disk.rows` are those of the one to come.
        self._syncing = False
        self._refetching: set[ShardId] = set()
        self._unsynced: list[tuple[ShardReplica, Entry]] = []
        self.applying: dict[ShardId, list[tuple[Entry, ...]]] = {}

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Replay, then fence, then read the configurations: never from a cache (rules R8, R14)."""
        for shard, index in self.disk.index.items():
            log = ShardLog(index.applied, index.applied_epoch)
            replica = self._make(shard, log)
            replica.restore(
                index.start, index.start_epoch, index.complete_to, index.copied_as_of, index.depth,
                index.acted_epoch,
            )  # fmt: skip
            log.requests.restore(index.request_ids, self.now())
        for record in list(self.disk.journal):
            replica = self.replica(record.shard)
            if record.split is not None:
                self.perform(replica, replica.recover_split(*record.split))
                self.save(replica)
            elif record.entry is None:
                assert record.start is not None
                start, epoch, complete_to, depth = record.start
                actions = replica.recover_start(start, epoch, record.commit, complete_to, depth)
                self.perform(replica, actions)
                self.save(replica)
            else:
                old = record.entry
                record.entry = Entry(
                    old.epoch, old.seq, old.kind, old.request_id, old.metadata,
                    old.data, old.operation, old.touched,
                )  # fmt: skip
                replica.recover(record.entry, record.commit)
        for replica in list(self.replicas.values()):
            self.perform(replica, replica.recovered())
        self.recovering = False
        self.world.store.rewrite_fence(self, self._read_rows)
        self._timer()

    def _read_rows(self) -> None:
        if not self.world.store.reachable(self):
            self.world.after(0.2, self.when_awake, self._read_rows)
            return
        self.fenced = True
        self.list_rows()

    def list_rows(self) -> None:
        """All configurations as they are."""
        for shard, configuration in list(self.world.store.configurations.items()):
            self.see_configuration(shard, configuration)

    def _make(self, shard: ShardId, log: ShardLog) -> ShardReplica:
        replica = self.replicas[shard] = ShardReplica(
            shard,
            self.id,
            self.disk.incarnation,
            self.leases,
            self.world.strength,
            self._choose_spare,
            log,
            self.world.registered,
        )
        if self.rowless:
            replica.lose_rows()
        replica.on_plan(self.world.plans.get(shard))
        return replica

    def replica(self, shard: ShardId) -> ShardReplica:
        return self.replicas.get(shard) or self._make(shard, ShardLog(Seq(0), Epoch(0)))

    def _unsplit(self, shard: ShardId) -> ShardId | None:
        """The shard here that `shard` is still a part of: it is split first (rule R18)."""
        for ancestor, depth in ancestors(shard):
            known = self.replicas.get(ancestor)
            if known is not None and known.may_contain(depth):
                return ancestor
        return None

    def _addressed(self, shard: ShardId) -> ShardReplica | None:
        """Whom a message is for."""
        replica = self.replicas.get(shard)
        if replica is None:
            unsplit = self._unsplit(shard)
            if unsplit is not None:
                self._refetch(unsplit)
                return None
            replica = self._make(shard, ShardLog(Seq(0), Epoch(0)))
        return replica

    def lose_rows(self) -> None:
        """The index turns out to be damaged."""
        self.rowless = True
        self.copies.clear()
        for replica in self.replicas.values():
            self.perform(replica, replica.lose_rows())

    def regain_rows(self) -> None:
        """Another index shows all that is applied."""
        self.rowless = False
        for replica in self.replicas.values():
            self.perform(replica, replica.regain_rows())

    def look_at_rows(self) -> None:
        """Before anything is answered that they say."""
        if self.rowless:
            self.world.fail(f"n{self.id} reads an index that is damaged")

    def now(self) -> float:
        return self.world.clock(self.id)

    def is_paused(self) -> bool:
        return self.world.time < self.paused_until

    def when_awake(self, what: Any, *args: Any) -> None:
        """Now, or when the pause ends."""
        if not self.running:
            return
        if self.world.time < self.paused_until:
            self.world.at(self.paused_until, self.when_awake, what, *args)
        else:
            what(*args)

    def _choose_spare(
        self, shard: ShardId, configuration: ShardConfiguration, useless: Collection[NodeId]
    ) -> Learner | None:
        """Of the nodes that seem to be alive: one that has old data first."""
        former = {known.node for known in configuration.last_full}
        plan = self.world.plans.get(shard)
        wanted = set(plan.members) if plan is not None else set()
        candidates = [
            node
            for node in self.world.nodes
            if configuration.member(node) is None
            and node in self.world.alive
            and node not in useless
            and not configuration.has_given_up(node, self.world.registered[node])
        ]
        candidates.sort(key=lambda node: (node not in wanted, node not in former, node))
        if not candidates:
            return None
        return Learner(candidates[0], self.world.registered[candidates[0]])

    # -- events --------------------------------------------------------------------------------

    def see_configuration(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        if not self.fenced:
            return
        known = self.configurations.get(shard)
        if known is None or known.epoch < configuration.epoch:
            self.configurations[shard] = configuration
        if shard not in self.replicas and (unsplit := self._unsplit(shard)) is not None:
            self.held[shard] = configuration
            self._refetch(unsplit)
            return
        nodes = [member.node for member in configuration.members] + [
            known.node for known in configuration.learners
        ]
        if shard in self.replicas or self.id in nodes:
            replica = self.replica(shard)
            self.perform(replica, replica.on_configuration(configuration, self.now()))
        released = [each for each in self.held if self._unsplit(each) is None]
        for half, held in [(each, self.held.pop(each)) for each in released]:
            self.see_configuration(half, held)

    def swap_outcome(self, shard: ShardId, swap: Swap, configuration: ShardConfiguration) -> None:
        self.see_configuration(shard, configuration)
        replica = self.replicas[shard]
        self.perform(replica, replica.on_swap_outcome(swap, configuration, self.now()))

    def _timer(self) -> None:
        if not self.running:
            return
        if self.is_paused():
            self.world.at(self.paused_until, self._timer)
            return
        now = self.now()
        for replica in list(self.replicas.values()):
            check_rest(replica, now)
            self.perform(replica, replica.on_timer(now))
            self.perform(replica, replica.announcement())
        self._beat()
        self.world.after(TIMER_S, self._timer)

    def _beat(self) -> None:
        for node, beat in self.leases.beats(self.now()):
            self.world.send(self.id, node, ("beat", beat))

    def receive(self, sender: NodeId, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "beat":
            answer = self.leases.on_beat(sender, message[1], self.now())
            self.world.send(self.id, sender, ("answer", answer))
        elif kind == "answer":
            if self.leases.on_answer(sender, message[1], self.now()):
                beat = self.leases.beat(sender, self.now())
                self.world.send(self.id, sender, ("beat", beat))
            self.world.check_leases()
        elif kind in ("ask", "reply"):
            self.world.clients.receive(self, sender, message)
        else:
            replica = self._addressed(message[1])
            if replica is not None:
                self._receive_for(replica, sender, message)
        if self.leases.beat_soon:
            self._beat()

    def _receive_for(self, replica: ShardReplica, sender: NodeId, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "prepare":
            _, _, epoch, session, sent, previous_epoch, commit = message
            if self.disk.full:
                return
            self.perform(
                replica,
                replica.on_prepare(sender, epoch, session, sent, previous_epoch, commit),
            )
        elif kind == "ack":
            _, _, epoch, upto, session, complete = message
            self.perform(replica, replica.on_ack(sender, epoch, upto, session, complete))
        elif kind == "commit":
            _, _, epoch, commit, commit_epoch = message
            self.perform(replica, replica.on_commit(sender, epoch, commit, commit_epoch))
        elif kind == "nack":
            self.perform(replica, replica.on_nack(sender, message[2]))
        elif kind == "log end":
            _, _, epoch, log_end, asks = message
            self.perform(replica, replica.on_log_end(sender, epoch, log_end, asks, self.now()))
        elif kind == "join":
            self.perform(replica, replica.on_join(sender, message[2], message[3]))
        elif kind == "session":
            self.perform(replica, replica.on_session(sender, *message[2:]))
        elif kind == "copy":
            serve_copy(self, sender, replica, message)
        elif kind == "copied":
            take_copy(self, replica, message)
        elif kind == "repair":
            serve_repair(self, sender, message)
        elif kind == "repaired":
            take_repair(self, message)
        else:
            raise AssertionError(kind)

    # -- actions -------------------------------------------------------------------------------

    def perform(self, replica: ShardReplica, actions: list[Action]) -> None:
        world, shard = self.world, replica.shard
        for action in actions:
            if isinstance(action, Append):
                self._append(Record(shard, action.commit, action.entry))
                self._unsynced.append((replica, action.entry))
            elif isinstance(action, SendPrepare):
                e = action.entry
                sent = (e.epoch, e.seq, e.kind, e.request_id, e.metadata, b"")
                for node, session in action.targets:
                    world.send(self.id, node, ("prepare", shard, replica.epoch, session,
                               sent, action.previous_epoch, action.commit))  # fmt: skip
            elif isinstance(action, SendAck):
                world.send(self.id, action.node, ("ack", shard, replica.epoch, action.upto,
                           action.session, action.complete))  # fmt: skip
            elif isinstance(action, Apply):
                world.check_committed(self, replica, action.entries)
                delay = 0.0 if world.random.random() < 0.7 else world.random.random() * 0.005
                if self.applying.get(shard) or (delay and self.fenced):
                    self.applying.setdefault(shard, []).append(action.entries)
                    world.after(delay, self.when_awake, self._apply_next, replica)
                else:
                    self._apply(replica, action.entries)
            else:
                self._perform_rare(replica, action)

    def _perform_rare(self, replica: ShardReplica, action: Action) -> None:
        world, shard = self.world, replica.shard
        match action:
            case SendNack(node=node):
                world.send(self.id, node, ("nack", shard, replica.epoch))
            case SendLogEnd(node=node, end=end, asks=asks):
                world.send(self.id, node, ("log end", shard, replica.epoch, end, asks))
            case SendCommit(nodes=nodes, commit=commit, commit_epoch=epoch):
                for node in nodes:
                    world.send(self.id, node, ("commit", shard, replica.epoch, commit, epoch))
            case SendJoin(node=node, nonce=nonce):
                world.send(self.id, node, ("join", shard, replica.epoch, nonce))
            case SendSession(node=node):
                world.send(self.id, node, ("session", shard, replica.epoch, action.nonce,
                           action.session, action.start, action.start_epoch))  # fmt: skip
            case StartLog(
                start=start, start_epoch=epoch, commit=commit, complete_to=complete_to, depth=depth
            ):
                world.tell(f"n{self.id} starts its log of {shard} behind {start}")
                self.save(replica)
                self._append(Record(shard, commit, None, (start, epoch, complete_to, depth)))
            case SplitLog():
                self._split(replica, action)
            case FlushIndex():
                self.save(replica)
                self.disk.flush()
            case Copy(start=start, sources=sources):
                self.copies[shard] = [start, list(sources), {}, world.next_number()]
                ask_for_copy(self, shard, self.copies[shard])
            case SubmitSwap(swap=swap):
                world.store.submit(self, shard, swap)
            case Refetch():
                self._refetch(shard)
            case Abandon(entries=entries):
                for entry in entries:
                    for answer in self.waiting.pop(entry, ()):
                        answer("retry")
            case _:
                raise AssertionError(action)

    def _split(self, replica: ShardReplica, split: SplitLog) -> None:
        """Rule R18: a record before any later one of either half; the state of both at once."""
        world, shard, sibling = self.world, replica.shard, split.sibling
        world.tell(f"n{self.id} splits its log of {shard} behind {split.seq}")
        self.copies.pop(shard, None)
        if not self.recovering:
            self._append(Record(shard, split.seq, None, None, (split.depth, split.seq)))
        if sibling not in self.replicas:
            self._make(sibling, split.log).inherit(split)
        self.save(replica)
        self.save(self.replicas[sibling])
        if self.recovering:
            return
        configuration = self.held.pop(sibling, None)
        if configuration is None and split.swap is not None:
            configuration = split.swap.proposed
        if configuration is None:
            self._refetch(sibling)
        else:
            self.see_configuration(sibling, configuration)

    def _refetch(self, shard: ShardId) -> None:
        if shard not in self._refetching and self.fenced:
            self._refetching.add(shard)
            self.world.after(0.003, self.world.store.read, self, lambda: self._refetched(shard))

    def _refetched(self, shard: ShardId) -> None:
        self._refetching.discard(shard)
        if shard in self.world.store.configurations:
            self.see_configuration(shard, self.world.store.configurations[shard])

    # -- the disk ------------------------------------------------------------------------------

    def _append(self, record: Record) -> None:
        self.disk.append(record)
        if not self._syncing:
            self._syncing = True
            self._begin_sync()

    def _begin_sync(self) -> None:
        delay = (0.0002 + self.world.random.random() * 0.001) * self.disk.slow
        begun = self.disk.begin_sync()
        unsynced, self._unsynced = self._unsynced, []
        self.world.after(delay, self.when_awake, self._synced, begun, unsynced)

    def _synced(self, begun: int, told: list[tuple[ShardReplica, Entry]]) -> None:
        if self.disk.failing:
            self.world.sync_failed(self.id)
            return
        self.disk.end_sync(begun)
        self._syncing = False
        for replica, entry in told:
            self.perform(replica, replica.on_durable(entry))
        if not self._syncing and self._unsynced:
            self._syncing = True
            self._begin_sync()

    def _apply_next(self, replica: ShardReplica) -> None:
        queue = self.applying.get(replica.shard)
        if queue:
            self._apply(replica, queue.pop(0))

    def _apply(self, replica: ShardReplica, entries: tuple[Entry, ...]) -> None:
        index = self.disk.shard(replica.shard)
        for entry in entries:
            operation = entry.operation
            if isinstance(operation, PutObject):
                self.disk.put(index, operation.key, entry.seq, operation.row.etag)
            elif isinstance(operation, DeleteObject):
                self.disk.put(index, operation.key, entry.seq, None)
        actions = replica.on_applied(entries[-1].seq, self.now())
        self.save(replica)
        if self.waiting:
            for entry in entries:
                outcome = "refused" if entry.kind is RecordKind.REFUSED else "done"
                for answer in self.waiting.pop(entry, ()):
                    self.world.check_durable(self, replica, entry)
                    answer(outcome)
        self.perform(replica, actions)
        if self.refusals:
            self.world.clients.look_at_refusals(self)
        if self.listings:
            self.world.clients.look_at_listings(self)

    def save(self, replica: ShardReplica) -> None:
        index, log = self.disk.shard(replica.shard), replica.log
        index.applied, index.applied_epoch = log.applied, log.applied_epoch
        index.start, index.start_epoch = log.start, log.start_epoch
        index.complete_to, index.copied_as_of = replica.complete_to, replica.history.copied_as_of
        index.request_ids = log.requests.pairs()
        index.depth, index.acted_epoch = replica.depth, replica.history.acted_epoch


def check_rest(replica: ShardReplica, now: float) -> None:
    """Who takes the short way at a tick would have nothing to do on the long one, either."""
    configuration = replica.configuration
    if configuration is None or replica.swaps.pending is not None or replica.place.member is None:
        return
    if replica.leading:
        if replica.reconfigurer.is_at_rest(configuration, now):
            found = replica.reconfigurer.look_after(configuration, now)
            assert found == [], "a primary at rest has something to do"
    elif replica.backup.is_at_rest_behind(configuration.primary, now):
        assert not replica.backup.may_take_over(now), "a backup at rest could take over"
