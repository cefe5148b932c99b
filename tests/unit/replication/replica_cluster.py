"""Three replicas of one shard with simulated disks, links and configuration store, from one seed.

Everything the real shell does is done here by hand and may go wrong at every step: a sync may come
late, a crash loses what was not synced and whatever the index had not flushed, a cut link loses
what was on it, a node learns of a new row late, or swaps one in and hears of it late.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from octad.sharding.ids import BucketId, Epoch, NodeId, Seq, ShardId
from octad.sharding.shard_map import Member, ShardRow
from octad.storage_node.core.index_format import object_key
from octad.storage_node.core.operations import PutObject, encode_operation
from octad.storage_node.core.record_format import RecordKind
from octad.storage_node.core.rows import ObjectRow
from octad.storage_node.core.shard_replica import (
    Abandon,
    Action,
    Append,
    Apply,
    Entry,
    Lead,
    NotPrimary,
    NotServing,
    Refetch,
    SendAck,
    SendCommit,
    SendNack,
    SendPrepare,
    ShardReplica,
)

NODES = (NodeId(1), NodeId(2), NodeId(3))
SHARD = ShardId(0)
BUCKET = BucketId(1)
KEYS = (b"a", b"b")


@dataclass
class Disk:
    """A journal of (entry, commit point in its record) and an index, with what is durable."""

    journal: list[tuple[Entry, Seq]] = field(default_factory=list)
    synced: int = 0
    index: dict[bytes, int] = field(default_factory=dict)  # key -> seq of its newest write
    applied: tuple[Seq, Epoch] = (Seq(0), Epoch(0))
    flushed_index: dict[bytes, int] = field(default_factory=dict)
    flushed_applied: tuple[Seq, Epoch] = (Seq(0), Epoch(0))
    replay_from: int = 0  # Flushed with the index: not past anything that it does not show.

    def flush_index(self, rng: random.Random) -> None:
        """Other shards share the journal, so replay may begin anywhere before what is needed."""
        self.flushed_index, self.flushed_applied = dict(self.index), self.applied
        held = range(self.replay_from, len(self.journal))
        needed = next((at for at in held if not self.journal[at][0].settled), len(self.journal))
        self.replay_from = min(rng.randint(self.replay_from, needed), self.synced)

    def crash(self) -> None:
        del self.journal[self.synced :]
        self.index, self.applied = dict(self.flushed_index), self.flushed_applied


class ReplicaCluster:
    """Call `step` as often as you like; violations are AssertionErrors with the story so far."""

    def __init__(self, seed: int, *, replicas: int = 3, ack_before_sync: bool = False) -> None:
        self.random = random.Random(seed)
        self.ack_before_sync = ack_before_sync
        self.nodes = NODES[:replicas]
        self.story: list[str] = []
        self.disks = {node: Disk() for node in self.nodes}
        self.replicas: dict[NodeId, ShardReplica | None] = dict.fromkeys(self.nodes)
        members = tuple(Member(node, f"disk{node}") for node in self.nodes)
        self.row = ShardRow(Epoch(1), 0, self.nodes[0], members)
        self.links: dict[tuple[NodeId, NodeId], deque[Action] | None] = {
            (a, b): deque() for a in self.nodes for b in self.nodes if a != b
        }
        self.swaps: list[tuple[NodeId, ShardReplica, ShardRow]] = []
        self.waiting: dict[Entry, int] = {}
        self.committed: dict[Seq, tuple[Epoch, bytes]] = {}
        self.seen_seq: dict[bytes, int] = dict.fromkeys(KEYS, 0)  # Acknowledged or read.
        self.acknowledged = 0
        self.writes = 0
        for node in self.nodes:
            self.start(node)

    # -- what can happen -----------------------------------------------------------------------

    def step(self) -> None:
        """One random thing."""
        actions = [self.write, self.read, self.sync, self.deliver, self.announce]
        weights = [6, 6, 12, 40, 2]
        rare = [self.flush_index, self.cut_or_heal, self.crash_or_start, self.learn_row, self.swap]
        self.random.choices(actions + rare, [*weights, 1, 1.5, 0.2, 8, 8])[0]()

    def write(self) -> None:
        replica = self._any_running()
        if replica is None:
            return
        key = self.random.choice(KEYS)
        self.writes += 1
        operation = PutObject(BUCKET, key, ObjectRow(1, str(self.writes), 0))
        metadata = encode_operation(operation)
        try:
            entry, actions = replica.propose(
                RecordKind.PUT_OBJECT, bytes(16), metadata, b"x", operation
            )
        except (NotPrimary, NotServing):
            return
        self._tell(f"n{replica.node} proposes {entry.seq} of epoch {entry.epoch}")
        self.waiting[entry] = self.writes
        self._perform(replica, actions)

    def read(self) -> None:
        """At any node, where rule R3 allows it: never older than what anyone has seen."""
        replica = self._any_running()
        if replica is None or replica.row is None:
            return
        key = self.random.choice(KEYS)
        serving = replica.leading and replica.commit >= replica.barrier
        if not serving and object_key(BUCKET, key) in replica.dirty:
            return
        seq = self.disks[replica.node].index.get(key, 0)
        assert seq >= self.seen_seq[key], self._fail(f"n{replica.node} reads {seq} of {key!r}")
        self.seen_seq[key] = seq

    def sync(self) -> None:
        node = self.random.choice(self.nodes)
        replica, disk = self.replicas[node], self.disks[node]
        if replica is None or disk.synced == len(disk.journal):
            return
        upto = self.random.randint(disk.synced + 1, len(disk.journal))
        done, disk.synced = disk.journal[disk.synced : upto], upto
        for entry, _ in done:
            self._perform(replica, replica.on_durable(entry))

    def deliver(self) -> None:
        busy = [(pair, queue) for pair, queue in self.links.items() if queue]
        if not busy:
            return
        (sender, receiver), queue = self.random.choice(busy)
        action = queue.popleft()
        replica = self.replicas[receiver]
        if replica is not None:
            self._receive(replica, sender, action)

    def announce(self) -> None:
        for replica in self._running():
            self._perform(replica, replica.announcement())

    def flush_index(self) -> None:
        replica = self._any_running()
        if replica is not None:
            self.disks[replica.node].flush_index(self.random)

    def cut_or_heal(self) -> None:
        running = [replica.node for replica in self._running()]
        cut = [(a, b) for a in running for b in running if a < b and self.links[a, b] is None]
        if cut and self.random.random() < 0.9:
            self._connect(*self.random.choice(cut))
        elif len(running) > 1:
            a, b = self.random.sample(running, 2)
            self.links[a, b] = self.links[b, a] = None
            self._tell(f"n{a} and n{b} are cut off from each other")

    def crash_or_start(self) -> None:
        down = [node for node in self.nodes if self.replicas[node] is None]
        if down and self.random.random() < 0.8:
            self.start(self.random.choice(down))
        elif len(down) < len(self.nodes):
            self.crash(self.random.choice([n for n in self.nodes if n not in down]))

    def learn_row(self) -> None:
        replica = self._any_running()
        if replica is not None and not any(swap[1] is replica for swap in self.swaps):
            self._perform(replica, replica.on_row(self.row))

    def swap(self) -> None:
        """A swap that was begun reaches the store; its outcome reaches the node at once."""
        if not self.swaps:
            return
        node, replica, old = self.swaps.pop(self.random.randrange(len(self.swaps)))
        if self.replicas[node] is not replica or self.row != old:
            return  # The fence key of a node that restarted, or the row, has changed.
        self.row = ShardRow(Epoch(old.epoch + 1), old.depth, node, old.members)
        self._tell(f"n{node} leads epoch {self.row.epoch}")
        self._perform(replica, replica.lead(self.row))

    def start(self, node: NodeId) -> None:
        disk = self.disks[node]
        replica = ShardReplica(SHARD, node, f"disk{node}", *disk.applied)
        self.replicas[node] = replica
        self._tell(f"n{node} starts with {disk.applied[0]} applied")
        for at in range(disk.replay_from, len(disk.journal)):
            entry, commit = disk.journal[at]
            fresh = Entry(
                entry.epoch,
                entry.seq,
                entry.kind,
                entry.request_id,
                entry.metadata,
                entry.data,
                entry.operation,
                entry.touched,
            )
            disk.journal[at] = (fresh, commit)
            replica.recover(fresh, commit)
        self._perform(replica, replica.recovered())
        for other in self.nodes:
            if other != node and self.replicas[other] is not None:
                self._connect(node, other)

    def crash(self, node: NodeId) -> None:
        self._tell(f"n{node} crashes")
        self.replicas[node] = None
        self.disks[node].crash()
        for pair in self.links:
            if node in pair:
                self.links[pair] = None

    def heal(self) -> None:
        """Everybody runs, is connected and knows the row: then let all that is under way end."""
        for node in self.nodes:
            if self.replicas[node] is None:
                self.start(node)
        for a, b in self.links:
            if a < b and self.links[a, b] is None:
                self._connect(a, b)
        for _ in range(60):
            while self.swaps:
                self.swap()
            for replica in self._running():
                self._perform(replica, replica.on_row(self.row))
            while any(self.links.values()):
                self.deliver()
            for node in self.nodes:
                while self.disks[node].synced < len(self.disks[node].journal):
                    self.sync()
            self.announce()

    # -- how it happens ------------------------------------------------------------------------

    def _perform(self, replica: ShardReplica, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Append(entry=entry, commit=commit):
                    self.disks[replica.node].journal.append((entry, commit))
                    if self.ack_before_sync:
                        self._perform(replica, replica.on_durable(entry))
                case SendPrepare() | SendAck() | SendNack() | SendCommit():
                    queue = self.links[replica.node, action.node]
                    if queue is not None:
                        assert replica.row is not None
                        queue.append(_Stamped(action, replica.row.epoch))  # type: ignore[arg-type]
                case Apply(entries=entries):
                    self._apply(replica, entries)
                case Lead(row=row):
                    self.swaps.append((replica.node, replica, row))
                case Abandon(entries=entries):
                    for entry in entries:
                        self.waiting.pop(entry, None)
                case Refetch():
                    pass  # `learn_row` comes sooner or later.

    def _apply(self, replica: ShardReplica, entries: tuple[Entry, ...]) -> None:
        disk = self.disks[replica.node]
        for entry in entries:
            name = (entry.epoch, entry.metadata)
            known = self.committed.setdefault(entry.seq, name)
            assert known == name, self._fail(f"n{replica.node} commits another entry {entry.seq}")
            assert entry.seq == disk.applied[0] + 1, self._fail(f"n{replica.node} skips entries")
            if isinstance(entry.operation, PutObject):
                disk.index[entry.operation.key] = entry.seq
            disk.applied = (entry.seq, entry.epoch)
        replica.on_applied(entries[-1].seq)
        for entry in entries:
            if self.waiting.pop(entry, None) is not None:
                self._acknowledge(entry)

    def _acknowledge(self, entry: Entry) -> None:
        """The promise: every member has it on its disk, whatever crashes now."""
        self.acknowledged += 1
        for node in self.nodes:
            disk = self.disks[node]
            durable = disk.flushed_applied[0] >= entry.seq or any(
                (held.seq, held.epoch) == (entry.seq, entry.epoch)
                for held, _ in disk.journal[disk.replay_from : disk.synced]
            )
            assert durable, self._fail(f"{entry.seq} is acknowledged and n{node} may lose it")
        assert isinstance(entry.operation, PutObject)
        key = entry.operation.key
        self.seen_seq[key] = max(self.seen_seq[key], entry.seq)

    def _receive(self, replica: ShardReplica, sender: NodeId, stamped: Action) -> None:
        assert isinstance(stamped, _Stamped)
        epoch, action = stamped.epoch, stamped.action
        match action:
            case SendPrepare(entry=entry, previous_epoch=previous_epoch, commit=commit):
                copied = (
                    entry.epoch,
                    entry.seq,
                    entry.kind,
                    entry.request_id,
                    entry.metadata,
                    b"x",
                )
                actions = replica.on_prepare(sender, epoch, copied, previous_epoch, commit)
            case SendAck(upto=upto):
                actions = replica.on_ack(sender, epoch, upto)
            case SendNack():
                actions = replica.on_nack(sender, epoch)
            case SendCommit(commit=commit, commit_epoch=commit_epoch):
                actions = replica.on_commit(sender, epoch, commit, commit_epoch)
            case _:
                raise AssertionError(action)
        self._perform(replica, actions)

    def _connect(self, a: NodeId, b: NodeId) -> None:
        self.links[a, b], self.links[b, a] = deque(), deque()
        for here, there in ((a, b), (b, a)):
            replica = self.replicas[here]
            if replica is not None:
                self._perform(replica, replica.on_connected(there))

    def _running(self) -> list[ShardReplica]:
        return [replica for replica in self.replicas.values() if replica is not None]

    def _any_running(self) -> ShardReplica | None:
        running = self._running()
        return self.random.choice(running) if running else None

    def _tell(self, what: str) -> None:
        self.story.append(what)

    def _fail(self, what: str) -> str:
        return "\n".join([*self.story[-60:], what])


@dataclass(frozen=True, slots=True)
class _Stamped:
    """A message under way: the action that sent it, and the epoch in which it was sent."""

    action: Action
    epoch: Epoch
