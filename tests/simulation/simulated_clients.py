"""Clients at the nodes' front doors: they read and write a few keys and remember what they saw.

A front door retries a request, under the same id, at whoever is primary until its patience ends;
then the outcome is unknown. Reads are answered by the node itself where rule R3 allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.linearizability import ANY, INFINITE, Done, is_linearizable

from octad.sharding.ids import BucketId, NodeId, ShardId
from octad.storage_node.core.failover.replica_actions import (
    AlreadyOrdered,
    AlreadyRefused,
    NotPrimary,
    NotServing,
    OutcomeUnknown,
)
from octad.storage_node.core.failover.replica_state import ReadTicket
from octad.storage_node.core.failover.shard_replica import ShardReplica
from octad.storage_node.core.index_format import object_key
from octad.storage_node.core.operations import (
    DeleteObject,
    PutObject,
    encode_operation,
)
from octad.storage_node.core.record_format import RecordKind
from octad.storage_node.core.rows import ObjectRow

if TYPE_CHECKING:
    from tests.simulation.simulated_node import Process
    from tests.simulation.world import World

BUCKET = BucketId(1)
PATIENCE_S = 6.0
ATTEMPT_S = 0.7
KEYS = (b"\x00", b"\x01", b"\x02")
INDEX_KEYS = {key: object_key(BUCKET, key) for key in KEYS}


@dataclass(slots=True, eq=False)
class Request:
    """One operation of one client."""

    number: int
    front: Process
    shard: ShardId
    key: bytes
    is_write: bool
    value: str | None
    if_match: str | None
    started: float  # By the front door's clock.
    finish: Callable[[str, str | None], None]
    request_id: bytes
    metadata: bytes = b""
    operation: Any = None
    finished: bool = False
    attempts: int = 0


@dataclass(slots=True)
class Refusal:
    """A 412 that waits for what it was decided on to be committed."""

    replica: ShardReplica
    ticket: ReadTicket
    request: Request
    answer: Callable[..., None]


@dataclass(slots=True)
class Clients:
    """See the module."""

    world: World
    history: dict[tuple[ShardId, bytes], list[Done]] = field(default_factory=dict)
    seen: dict[tuple[int, ShardId, bytes], str | None] = field(default_factory=dict)
    stopped: bool = False
    answered: int = 0
    unknown: int = 0
    refused: int = 0
    local_reads: int = 0

    # -- the client ----------------------------------------------------------------------------

    def start(self, clients: int) -> None:
        self.world.after(0.3, self.probe)
        for client in range(clients):
            self.world.after(0.3 + client * 0.01, self.next_operation, client)

    def probe(self) -> None:
        """Reads wherever a replica believes that it may, and perhaps should not any more."""
        world = self.world
        if self.stopped:
            return
        world.after(world.random.random() * 0.1, self.probe)
        running = world.processes()
        if not running:
            return
        process = world.random.choice(running)
        for replica in process.replicas.values():
            self.read_at(process, replica, KEYS[int(world.random.random() * len(KEYS))])

    def read_at(self, process: Process, replica: ShardReplica, key: bytes) -> Done | None:
        """A read that only this node may answer; None when it knows that it may not."""
        done = Done(self.world.time, INFINITE, False, None)
        request = Request(
            0, process, replica.shard, key, False, None, ANY, 0.0, lambda *_: None, b""
        )

        def answer(outcome: str, found: str | None = None) -> None:
            if outcome == "done":
                done.returned, done.value = self.world.time, found
                self.local_reads += 1

        if process.is_paused() or not self._read(process, replica, request, answer):
            return None
        self.history.setdefault((replica.shard, key), []).append(done)
        return done

    def next_operation(self, client: int) -> None:
        """Something at a running node; the next one follows its answer."""
        world = self.world
        if self.stopped:
            return
        running = world.processes()
        if not running:
            world.after(0.2, self.next_operation, client)
            return
        random = world.random
        front = random.choice(running)
        shard = random.choice(list(world.store.rows))
        key = KEYS[int(random.random() * len(KEYS))]
        dice = random.random()
        if_match: str | None = ANY
        if dice < 0.5:
            self.request(client, front, shard, key, False, None, ANY)
            return
        if dice > 0.75:
            if_match = self.seen.get((client, shard, key)) if random.random() < 0.8 else None
        value = None if dice < 0.56 else f"v{world.next_number()}"
        self.request(client, front, shard, key, True, value, if_match)

    def request(
        self,
        client: int,
        front: Process,
        shard: ShardId,
        key: bytes,
        is_write: bool,
        value: str | None,
        if_match: str | None,
    ) -> Done:
        """Begin one operation; it ends in the history."""
        world = self.world
        done = Done(world.time, INFINITE, is_write, value, if_match)
        self.history.setdefault((shard, key), []).append(done)

        def finish(outcome: str, found: str | None) -> None:
            if outcome == "unknown":
                self.unknown += 1
            else:
                done.returned = world.time
                self.answered += 1
                if outcome == "refused":
                    done.refused = True
                    self.refused += 1
                elif not is_write:
                    done.value = found
                self.seen[client, shard, key] = value if is_write else found
            if client >= 0:
                think = world.random.random() * 0.12
                world.after(think, self.next_operation, client)

        number = world.next_number()
        request = Request(
            number, front, shard, key, is_write, value, if_match, front.now(), finish,
            number.to_bytes(16, "big"),
        )  # fmt: skip
        if is_write:
            if value is None:
                request.operation = DeleteObject(BUCKET, key)
            else:
                request.operation = PutObject(BUCKET, key, ObjectRow(1, value, 0))
            request.metadata = encode_operation(request.operation)
        self._attempt(request)
        return done

    # -- the front door ------------------------------------------------------------------------

    def _attempt(self, request: Request) -> None:
        front, world = request.front, self.world
        if request.finished:
            return
        age = front.now() - request.started
        if not front.running or age > PATIENCE_S:
            self._finish(request, "unknown", None)
            return
        if front.is_paused():
            world.at(front.paused_until, self._attempt, request)
            return
        request.attempts += 1
        attempt = request.attempts
        world.after(ATTEMPT_S, self._attempt_again, request, attempt)
        row = front.rows.get(request.shard)
        if row is None:
            return
        if not request.is_write and front.id != row.primary and world.random.random() < 0.7:
            replica = front.replicas.get(request.shard)
            if replica is not None and self._read(
                front, replica, request, self._answer_to(request)
            ):
                self.local_reads += 1
                return
        if row.primary == front.id:
            self._serve(front, request, age, self._answer_to(request))
        else:
            target = world.running[row.primary]
            world.send(front.id, row.primary, ("ask", request.shard, request, age, target))

    def _attempt_again(self, request: Request, attempt: int) -> None:
        if not request.finished and request.attempts == attempt:
            self._attempt(request)

    def _answer_to(self, request: Request) -> Callable[..., None]:
        """At the front door itself: what becomes of an answer."""

        def answer(outcome: str, found: str | None = None) -> None:
            if request.finished or not request.front.running:
                return
            if outcome == "retry":
                delay = 0.03 + self.world.random.random() * 0.05
                self.world.after(delay, self._attempt_again, request, request.attempts)
            else:
                self._finish(request, outcome, found)

        return answer

    def _finish(self, request: Request, outcome: str, found: str | None) -> None:
        if not request.finished:
            request.finished = True
            request.finish(outcome, found)

    # -- the primary ---------------------------------------------------------------------------

    def receive(self, process: Process, sender: NodeId, message: tuple[Any, ...]) -> None:
        if message[0] == "reply":
            _, _, request, outcome, found = message
            if process is request.front:
                self._answer_to(request)(outcome, found)
            return
        _, shard, request, age, target = message
        if target is not process:
            return  # On a connection to a process that is gone.

        def answer(outcome: str, found: str | None = None) -> None:
            self.world.send(process.id, sender, ("reply", shard, request, outcome, found))

        self._serve(process, request, age, answer)

    def _serve(
        self, process: Process, request: Request, age: float, answer: Callable[..., None]
    ) -> None:
        replica = process.replicas.get(request.shard)
        if replica is None or (not request.is_write and not replica.leading):
            answer("retry")
        elif request.is_write:
            try:
                self._write(process, replica, request, age, answer)
            except (NotPrimary, NotServing):
                answer("retry")
            except AlreadyOrdered as known:
                if known.entry is None:
                    answer("done")
                else:
                    process.waiting.setdefault(known.entry, []).append(answer)
            except AlreadyRefused:
                answer("refused")
            except OutcomeUnknown:
                answer("unknown")
        elif not self._read(process, replica, request, answer):
            answer("retry")

    def _write(
        self,
        process: Process,
        replica: ShardReplica,
        request: Request,
        age: float,
        answer: Callable[..., None],
    ) -> None:
        replica.check_retry(request.request_id, age, process.now())
        if process.disk.full:
            answer("retry")
            return
        index_key = INDEX_KEYS[request.key]
        if request.if_match != ANY:
            newest = replica.log.newest(index_key)
            if newest is None:
                standing = self._value(process, replica, request.key)
            elif isinstance(newest.operation, PutObject):
                standing = newest.operation.row.etag
            else:
                standing = None
            if standing != request.if_match:
                ticket = replica.refusal_ticket(index_key, process.now())
                if ticket is None:
                    answer("retry")
                else:
                    process.refusals.append(Refusal(replica, ticket, request, answer))
                    self.look_at_refusals(process)
                return
        kind = RecordKind.DELETE_OBJECT if request.value is None else RecordKind.PUT_OBJECT
        entry, actions = replica.propose(
            kind, request.request_id, request.metadata, b"", request.operation
        )
        process.waiting[entry] = [answer]
        process.perform(replica, actions)

    def look_at_refusals(self, process: Process) -> None:
        """Answer those whose ground is committed; give up those of another epoch."""
        now = process.now()
        waiting: list[Refusal] = []
        for refusal in process.refusals:
            replica, ticket = refusal.replica, refusal.ticket
            if replica.row is None or replica.row.epoch != ticket.epoch:
                refusal.answer("retry")
            elif replica.refuse_request(refusal.request.request_id, ticket, now):
                refusal.answer("refused")
            elif replica.log.commit >= ticket.wait_for:
                refusal.answer("retry")
            else:
                waiting.append(refusal)
        process.refusals = waiting

    def _read(
        self,
        process: Process,
        replica: ShardReplica,
        request: Request,
        answer: Callable[..., None],
    ) -> bool:
        """Begin a read here, if that is allowed; it ends a moment later."""
        ticket = replica.begin_read(INDEX_KEYS[request.key], process.now())
        if ticket is None:
            return False
        value = self._value(process, replica, request.key)
        random = self.world.random.random
        delay = random() * (1.5 if random() < 0.02 else 0.002)
        self.world.after(
            delay, process.when_awake, self._end_read, process, replica, ticket, value, answer
        )
        return True

    def _end_read(
        self,
        process: Process,
        replica: ShardReplica,
        ticket: ReadTicket,
        value: str | None,
        answer: Callable[..., None],
    ) -> None:
        if replica.read_holds(ticket, process.now()):
            answer("done", value)
        else:
            answer("retry")

    def _value(self, process: Process, replica: ShardReplica, key: bytes) -> str | None:
        known = process.disk.shard(replica.shard).rows.get(key)
        return known[1] if known is not None else None

    # -- afterwards ----------------------------------------------------------------------------

    def check_histories(self) -> None:
        for (shard, key), history in self.history.items():
            if not is_linearizable(history):
                lines = [
                    f"{d.called:9.4f} … {d.returned:9.4f} "
                    + (f"write {d.value} if {d.if_match}" if d.is_write else f"read {d.value}")
                    + (" refused" if d.refused else "")
                    for d in sorted(history, key=lambda d: d.called)
                ]
                story = "\n".join(lines)
                self.world.fail(f"key {key!r} of shard {shard} is not linearizable:\n{story}")
