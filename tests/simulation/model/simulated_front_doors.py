"""The nodes' front doors, and primaries, readers and lists behind them.

A front door retries a request, under the same id, at whoever is primary until its patience ends;
then the outcome is unknown. What is answered to an attempt that it has given up, it does not hear.
Reads are answered by the node itself where rule R3 allows it. A client may try again at another
front door, with the same id, as an SDK does: then two of them hold one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from tests.simulation.model.node_disk import FLIPPED, key_hash
from tests.simulation.model.simulated_copies import is_readable

from octad.chaos.check.linearizability import ANY, appended, items
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, ShardId, shard_id
from octad.sharding.limits import CLOCK_DRIFT_MAX, SDK_RETRY_AGE_S
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.index.index_format import (
    IndexedObject,
    decode_object,
    encode_value,
    object_key,
)
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import Location, RecordKind, SegmentId
from octad.storage_node.operations.appends import AppendedPiece
from octad.storage_node.operations.conditions import ANY_ETAG, Condition
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    Operation,
    PutObject,
    encode_operation,
    kind_of,
    put_object,
)
from octad.storage_node.replication.guards import (
    Guard,
    GuardRefuses,
    Refusal,
    conditional,
    no_append,
)
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    AlreadyOrdered,
    AlreadyRefused,
    NotPrimary,
    NotServing,
    OutcomeUnknown,
)
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.shard_log import Entry
from octad.storage_node.replication.writes import Write

if TYPE_CHECKING:
    from tests.simulation.model.simulated_node import Process
    from tests.simulation.model.world import World

BUCKET = BucketId(1)
PATIENCE_S = 6.0
ATTEMPT_S = 0.7
DEPTH = 1  # That the pool begins with; its shards are split up to DEPTH_MAX.
DEPTH_MAX = 3
KEYS = tuple(bytes([number]) for number in range(1 << DEPTH_MAX))
LOGS = frozenset(KEYS[-2:])  # Written by appends alone.
INDEX_KEYS = {key: object_key(BUCKET, key) for key in KEYS}
_KEYS = {index_key: key for key, index_key in INDEX_KEYS.items()}
_NOWHERE = Location(SegmentId(0), 0, 0)


class NewerPut(PutObject, frozen=True, array_like=True):
    """As a newer version writes it: with a field that only that version knows."""

    later: int = 1


def route(configurations: Mapping[ShardId, ShardConfiguration], key: bytes) -> ShardId | None:
    """The shard of `key` by these configurations; None while its half's is not known yet."""
    depth = DEPTH
    while True:
        shard = shard_id(PoolId(0), key_hash(key) & ((1 << depth) - 1))
        configuration = configurations.get(shard)
        if configuration is None or configuration.depth == depth:
            return None if configuration is None else shard
        depth = configuration.depth


@dataclass(slots=True, eq=False)
class Request:
    """One operation of one client."""

    number: int
    front: Process
    key: bytes
    kind: str  # "read", "list", "write" or "append".
    value: str | None
    condition: Any  # What must stand, or the offset that must be next; ANY.
    began: float
    started: float  # The same by the front door's clock.
    finish: Callable[[str, Any], None]
    request_id: bytes
    sdk_attempt: int = 1  # Which of the client's it is.
    finished: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of a request, by the configuration that its front door had then."""

    request: Request
    number: int
    configuration: ShardConfiguration


@dataclass(slots=True)
class Page:
    """What a list answers, and of which shard it was asked for."""

    shard: ShardId
    depth: int
    values: dict[bytes, str | None]


@dataclass(slots=True)
class Listing:
    """A list that waits until the index shows what was committed when it was asked for."""

    replica: ShardReplica
    ticket: ReadTicket
    configuration: ShardConfiguration
    answer: Callable[..., None]


@dataclass(slots=True)
class WaitingRefusal:
    """A 412 that waits for what it was decided on to be committed."""

    replica: ShardReplica
    ticket: ReadTicket
    request: Request
    code: int
    answer: Callable[..., None]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the index of a process has, as a guard looks at it."""

    process: Process

    def get(self, index_key: bytes) -> bytes | None:
        known = self.process.disk.rows.get(_KEYS[index_key])
        if known is None or known[1] is None:
            return None
        row = _row(known[1].rstrip(FLIPPED))
        return encode_value(IndexedObject(_NOWHERE, Epoch(0), known[0], row))

    def scan(self, start: bytes, end: bytes | None) -> NoReturn:
        raise NotImplementedError


@dataclass(slots=True)
class FrontDoors:
    """See the module."""

    world: World
    local_reads: int = 0
    misdirected: int = 0
    refusals_ordered: int = 0

    # -- the front door ------------------------------------------------------------------------

    def attempt(self, request: Request) -> None:
        front, world = request.front, self.world
        if request.finished:
            return
        if not front.running or front.now() - request.started > PATIENCE_S:
            self._finish(request, "unknown", None)
            return
        if front.is_paused():
            world.at(front.paused_until, self.attempt, request)
            return
        request.attempts += 1
        number = request.attempts
        world.after(ATTEMPT_S, self._attempt_again, request, number)
        shard = route(front.configurations, request.key)
        if shard is None:
            return
        configuration = front.configurations[shard]
        if (
            request.kind == "read"
            and front.id != configuration.primary
            and world.random.random() < 0.7
        ):
            replica = front.replicas.get(shard)
            if replica is not None and self._read(
                front, replica, request.key, self._answer_to(request, number)
            ):
                self.local_reads += 1
                return
        attempt = Attempt(request, number, configuration)
        if configuration.primary == front.id:
            self._serve(front, shard, attempt, self._answer_to(request, number))
        else:
            target = world.running[configuration.primary]
            world.send(front.id, configuration.primary, ("ask", shard, attempt, target))

    def _attempt_again(self, request: Request, number: int) -> None:
        if not request.finished and request.attempts == number:
            self.attempt(request)

    def _answer_to(self, request: Request, number: int) -> Callable[..., None]:
        """At the front door itself: what becomes of an answer."""

        def answer(outcome: str, found: Any = None) -> None:
            if request.finished or request.attempts != number or not request.front.running:
                return
            if outcome == "misdirected":
                self.misdirected += 1
                self.world.store.read(request.front, request.front.list_rows)
            if outcome in ("retry", "misdirected"):
                delay = 0.03 + self.world.random.random() * 0.05
                self.world.after(delay, self._attempt_again, request, number)
            else:
                self._finish(request, outcome, found)

        return answer

    def _finish(self, request: Request, outcome: str, found: Any) -> None:
        if not request.finished:
            request.finished = True
            request.finish(outcome, found)

    # -- the primary ---------------------------------------------------------------------------

    def receive(self, process: Process, sender: NodeId, message: tuple[Any, ...]) -> None:
        if message[0] == "reply":
            _, _, attempt, outcome, found = message
            if process is attempt.request.front:
                self._answer_to(attempt.request, attempt.number)(outcome, found)
            return
        _, shard, attempt, target = message
        if target is not process:
            return  # On a connection to a process that is gone.

        def answer(outcome: str, found: Any = None) -> None:
            self.world.send(process.id, sender, ("reply", shard, attempt, outcome, found))

        self._serve(process, shard, attempt, answer)

    def _serve(
        self,
        process: Process,
        shard: ShardId,
        attempt: Attempt,
        answer: Callable[..., None],
    ) -> None:
        request = attempt.request
        replica = process.replicas.get(shard)
        if replica is None or not replica.leading:
            answer("retry")
        elif request.kind == "list":
            self._list(process, replica, attempt.configuration, answer)
        elif not replica.covers(key_hash(request.key)):
            answer("misdirected")  # 421: it was split.
        elif request.kind != "read":
            try:
                self._write(process, replica, attempt, answer)
            except (NotPrimary, NotServing):
                answer("retry")
            except AlreadyOrdered as known:
                if known.refusal == 0:
                    answer = self._with_offset(process, request, known.entry, answer)
                if known.entry is None:
                    answer("refused" if known.refusal else "done")
                else:
                    process.waiting.setdefault(known.entry, []).append(answer)
            except AlreadyRefused:
                answer("refused")
            except GuardRefuses as no:
                which = replica, no.ticket, request, no.refusal.code, answer
                process.refusals.append(WaitingRefusal(*which))
                self.look_at_refusals(process)
            except OutcomeUnknown:
                answer("unknown")
        elif not self._read(process, replica, request.key, answer):
            answer("retry")

    def _with_offset(
        self,
        process: Process,
        request: Request,
        entry: Entry | None,
        answer: Callable[..., None],
    ) -> Callable[..., None]:
        """An append is answered with its offset: that of its item in the log."""
        if request.kind != "append":
            return answer
        log = self.standing(process, request.key) if entry is None else _value(entry)
        assert log is not None
        assert request.value is not None
        offset = log.split(",").index(request.value)

        def answer_offset(outcome: str, _: Any = None) -> None:
            answer(outcome, offset if outcome == "done" else None)

        return answer_offset

    def _write(
        self,
        process: Process,
        replica: ShardReplica,
        attempt: Attempt,
        answer: Callable[..., None],
    ) -> None:
        request = attempt.request
        # The shell has to know: what the front door says, and the time on the way.
        age = (self.world.time - request.began) * (1 + 2 * CLOCK_DRIFT_MAX)
        replica.check_retry(request.request_id, age, process.now())
        if process.disk.full:
            answer("unknown")  # Refused at once; what became of earlier attempts it does not say.
            return
        write = _write_of(request, attempt.configuration.epoch)
        if write.guard is not None:
            write = replica.decide(write, Stored(process), process.now())
        entry, actions = replica.propose(write)
        if write.kind is RecordKind.REFUSED:
            self.refusals_ordered += 1
        else:
            answer = self._with_offset(process, request, entry, answer)
        process.waiting[entry] = [answer]
        process.perform(replica, actions)

    def look_at_refusals(self, process: Process) -> None:
        """Answer those whose ground is committed; give up those of another epoch."""
        now = process.now()
        waiting: list[WaitingRefusal] = []
        for refusal in process.refusals:
            replica, ticket = refusal.replica, refusal.ticket
            if replica.configuration is None or replica.configuration.epoch != ticket.epoch:
                refusal.answer("retry")
            elif replica.refuse_request(refusal.request.request_id, ticket, refusal.code, now):
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
        key: bytes,
        answer: Callable[..., None],
    ) -> bool:
        """Begin a read here, if that is allowed; it ends a moment later."""
        if not replica.covers(key_hash(key)):
            return False
        ticket = replica.begin_read(INDEX_KEYS[key], process.now())
        if ticket is None or not is_readable(process, replica, key):
            return False
        process.look_at_rows()
        known = process.disk.rows.get(key)
        self._end_soon(process, replica, ticket, known and known[1], answer)
        return True

    def _list(
        self,
        process: Process,
        replica: ShardReplica,
        configuration: ShardConfiguration,
        answer: Callable[..., None],
    ) -> None:
        """All keys of the shard, at the primary, of the epoch that the request names (rule R3)."""
        ticket = replica.begin_list(configuration.epoch, process.now())
        if ticket is None:
            answer("retry")
            return
        process.listings.append(Listing(replica, ticket, configuration, answer))
        self.look_at_listings(process)

    def look_at_listings(self, process: Process) -> None:
        """Read those that the index has caught up with; give up those that hold no more."""
        waiting: list[Listing] = []
        for listing in process.listings:
            replica, ticket = listing.replica, listing.ticket
            if not replica.read_holds(ticket, process.now()):
                listing.answer("retry")
            elif replica.shows(ticket):
                process.look_at_rows()
                here = [key for key in KEYS if replica.covers(key_hash(key))]
                values = {key: self.standing(process, key) for key in here}
                page = Page(replica.shard, listing.configuration.depth, values)
                self._end_soon(process, replica, ticket, page, listing.answer)
            else:
                waiting.append(listing)
        process.listings = waiting

    def _end_soon(
        self,
        process: Process,
        replica: ShardReplica,
        ticket: ReadTicket,
        value: Any,
        answer: Callable[..., None],
    ) -> None:
        random = self.world.random.random
        delay = random() * (1.5 if random() < 0.02 else 0.002)
        self.world.after(
            delay, process.when_awake, self._end_read, process, replica, ticket, value, answer
        )

    def _end_read(
        self,
        process: Process,
        replica: ShardReplica,
        ticket: ReadTicket,
        value: Any,
        answer: Callable[..., None],
    ) -> None:
        if replica.read_holds(ticket, process.now()):
            answer("done", value)
        else:
            answer("retry")

    def standing(self, process: Process, key: bytes) -> str | None:
        """As the index's rows say, whose names and tags are not where the bytes are damaged."""
        known = process.disk.rows.get(key)
        return known[1].rstrip(FLIPPED) if known is not None and known[1] is not None else None


def _value(entry: Entry) -> str | None:
    """What the entry makes of its key."""
    return entry.operation.row.etag if isinstance(entry.operation, PutObject) else None


def _write_of(request: Request, asked_in: Epoch) -> Write:
    """As it reaches the primary. Who runs a newer version writes a field more."""
    operation = _operation(request.key, request.value)
    sent: Operation = operation
    if isinstance(operation, PutObject) and request.front.newer:
        sent = NewerPut(operation.bucket, operation.key, operation.encoded_row)
    guard: Guard | None = None
    if request.kind == "append":
        guard = _append(request)
    elif request.condition is None:
        guard = conditional(Condition(none_match=(ANY_ETAG,)), operation)
    elif request.condition != ANY:
        guard = conditional(Condition(match=(request.condition,)), operation)
    age_s = SDK_RETRY_AGE_S if request.sdk_attempt > 1 else 0.0
    kind, hash_ = kind_of(operation), key_hash(request.key)
    encoded = encode_operation(sent), hash_, request.request_id, b""
    return Write(kind, operation, *encoded, age_s, asked_in, guard)


def _append(request: Request) -> Guard:
    """It becomes the whole log, if the offset is the one that is asked for."""

    def decide(rows: PreparedRows) -> Operation | Refusal:
        stored = rows.get(INDEX_KEYS[request.key])
        standing = None if stored is None else decode_object(stored)
        assert request.value is not None
        if request.condition != ANY:
            piece = AppendedPiece(request.condition, _row(request.value), {})
            code = no_append(piece, None, standing)
            if code is not None:
                return Refusal(code, "")
        log = None if standing is None else standing.row.etag
        return _operation(request.key, appended(log, request.value))

    return decide


def _operation(key: bytes, value: str | None) -> PutObject | DeleteObject:
    """What makes `value` stand at `key`."""
    if value is None:
        return DeleteObject(BUCKET, key)
    return put_object(BUCKET, key, _row(value))


def _row(value: str) -> ObjectRow:
    """Its size is where the next item of a log goes."""
    return ObjectRow(items(value), value, 0)
