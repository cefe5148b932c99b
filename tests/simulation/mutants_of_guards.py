"""Planted bugs in guards and refusals (rules R21 and R22)."""

from __future__ import annotations

from typing import Any

from tests.simulation.model.simulated_front_doors import (
    INDEX_KEYS,
    FrontDoors,
    Request,
    Stored,
)
from tests.simulation.model.simulated_node import Process
from tests.simulation.mutants_beside import Patch

from octad.chaos.check.linearizability import ANY, items
from octad.sharding.ids import Epoch, Seq
from octad.storage_node.replication.guards import GuardRefuses, Refusal
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.replica.shard_primary import Primary
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import NotServing
from octad.storage_node.replication.shard_log import ShardLog
from octad.storage_node.replication.writes import Write


def _serve_in_two_steps(
    doors: FrontDoors, process: Process, shard: Any, attempt: Any, answer: Any
) -> None:
    """The index is read by a thread, and the write is ordered when that has ended."""
    if attempt.request.kind in ("read", "list"):
        _serve(doors, process, shard, attempt, answer)
        return
    read = Stored(process).get(INDEX_KEYS[attempt.request.key])

    def order() -> None:
        Stored.get = lambda *_: read  # type: ignore[method-assign]
        try:
            _serve(doors, process, shard, attempt, answer)
        finally:
            Stored.get = _get  # type: ignore[method-assign]

    doors.world.after(0.002, process.when_awake, order)


_serve, _get = FrontDoors._serve, Stored.get


def _committed_row(rows: PreparedRows, key: bytes) -> bytes | None:
    rows.looked_at.append(key)
    return rows._stored.get(key)


def _guard_first(primary: Primary, write: Write, stored: Any, now: float) -> Write:
    primary.require_serving()
    assert write.guard is not None
    rows = PreparedRows(primary.place.shard, primary.log, stored)
    decision = write.guard(rows)
    if not isinstance(decision, Refusal):
        return _decide(primary, write, stored, now)
    ticket = primary.refusal_ticket(rows.looked_at, now)
    if ticket is None:
        raise NotServing
    raise GuardRefuses(decision, ticket)


def _decide_with_a_refusal_in_memory(
    primary: Primary, write: Write, stored: Any, now: float
) -> Write:
    remembered = primary.log.requests.was_refused(write.request_id) != 0
    return _decide(primary, write, stored, now, may_write_refusals=remembered)


def _decide_by_memory(primary: Primary, write: Write, stored: Any, now: float) -> Write:
    remembered = primary.log.requests.was_refused(write.request_id) != 0
    return _decide(primary, write, stored, now, may_write_refusals=not remembered)


_decide = Primary.decide


def _refuse_though_ordered(
    primary: Primary, request_id: bytes, ticket: Any, code: int, now: float
) -> bool:
    if primary.place.epoch != ticket.epoch or not primary.serves():
        return False
    if primary.log.commit < ticket.wait_for or not primary.has_lease(now):
        return False
    primary.log.requests.refuse(request_id, code, now)
    return True


def _decide_and_pass_on(primary: Primary, write: Write, stored: Stored, now: float) -> Write:
    decided = _decide(primary, write, stored, now)
    _guards[stored.process.world.seed, write.request_id] = write.guard
    return decided


def _apply_under_guards(process: Process, replica: ShardReplica, entries: Any) -> None:
    held = []
    for entry in entries:
        guard = _guards.get((process.world.seed, entry.request_id))
        rows = PreparedRows(replica.shard, ShardLog(Seq(0), Epoch(0)), Stored(process))
        if guard is not None and isinstance(guard(rows), Refusal):
            held.append((entry, entry.operation))
            entry.operation = None
    _apply(process, replica, entries)
    for entry, operation in held:
        entry.operation = operation


_guards: dict[tuple[int, bytes], Any] = {}
_apply = Process._apply


def _attempt_after_a_look(doors: FrontDoors, request: Request, of: str = "write") -> None:
    """The door reads what stands, decides, and sends a write without a condition."""
    if request.kind != of or request.condition == ANY:
        _attempt(doors, request)
        return

    def decide(outcome: str, found: Any) -> None:
        stands = items(found) if of == "append" else found
        if outcome == "done" and stands != request.condition:
            doors._finish(request, "refused", None)
        elif outcome == "done":
            request.condition = ANY
            _attempt(doors, request)
        else:
            doors._finish(request, "unknown", None)

    front, when = request.front, (request.began, request.started)
    number = doors.world.next_number()
    look = Request(number, front, request.key, "read", None, ANY, *when, decide, request.request_id)
    _attempt(doors, look)


def _append_after_a_look(doors: FrontDoors, request: Request) -> None:
    _attempt_after_a_look(doors, request, "append")


_attempt = FrontDoors.attempt


MUTANTS_OF_GUARDS: dict[str, list[Patch]] = {
    "a condition is decided at the front door": [(FrontDoors, "attempt", _attempt_after_a_look)],
    "an offset is checked at the front door": [(FrontDoors, "attempt", _append_after_a_look)],
    "rows are read before the turn of the guard": [(FrontDoors, "_serve", _serve_in_two_steps)],
    "a guard sees what is committed alone": [(PreparedRows, "get", _committed_row)],
    "a guard comes before the request's own memory": [
        (Primary, "check_retry", lambda *_: None),
        (Primary, "decide", _guard_first),
        (Primary, "refuse_request", _refuse_though_ordered),
    ],
    "refused though another attempt is ordered": [
        (Primary, "refuse_request", _refuse_though_ordered)
    ],
    "a later attempt's refusal is no entry": [
        (Primary, "decide", _decide_with_a_refusal_in_memory)
    ],
    "a remembered refusal is no entry": [(Primary, "decide", _decide_by_memory)],
    "a guard is asked again when its entry is applied": [
        (Primary, "decide", _decide_and_pass_on),
        (Process, "_apply", _apply_under_guards),
    ],
}
