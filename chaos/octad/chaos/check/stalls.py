"""How long clients waited, and what errors they got: overall and for each class of keys.

A wait begins with a client's request and ends with its answer; where that is an error and the
client asks for the same again, with the answer to that, and so on. Requests through a node that was
itself under a fault say nothing about the others, and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from octad.chaos.load.history import ClientRequest, Invoked, Outcome
from octad.chaos.load.workload import class_of

NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Harm:
    """A node that clients could not count on, from a fault's begin until it served again."""

    node: int
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Stall:
    """The longest wait on some key."""

    seconds: float
    key: str
    begin: float


NO_STALL = Stall(0.0, "", 0.0)


@dataclass(slots=True)
class Stalls:
    """`writes` and `reads` by class of keys. `errors` by status, through sound nodes."""

    writes: dict[str, Stall] = field(default_factory=dict)
    reads: dict[str, Stall] = field(default_factory=dict)
    errors: Counter[tuple[str, int]] = field(default_factory=Counter)
    errors_of_harmed: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def longest_write(self) -> Stall:
        return max(self.writes.values(), key=lambda stall: stall.seconds, default=NO_STALL)

    @property
    def longest_read(self) -> Stall:
        return max(self.reads.values(), key=lambda stall: stall.seconds, default=NO_STALL)


def measure_stalls(history: Iterable[ClientRequest], harms: Sequence[Harm]) -> Stalls:
    """See the module. A LIST counts as a key of its own, `list`."""
    result = Stalls()
    begun: dict[int, tuple[float, Invoked]] = {}  # By client: its pending request, and since when.
    for request in history:
        asked, answer = request.asked, request.answer
        harmed = _was_harmed(request, harms)
        _count_error(request, result.errors_of_harmed if harmed else result.errors)
        if harmed or answer is None:
            begun.pop(asked.client, None)
            continue
        since, wanted = begun.pop(asked.client, (asked.at, asked))
        if (wanted.kind, wanted.keys) != (asked.kind, asked.keys):
            since = asked.at
        if request.outcome is not Outcome.OK:
            begun[asked.client] = since, asked
        key = asked.keys[0] if len(asked.keys) == 1 else "list-"
        stalls = result.writes if asked.kind.is_write else result.reads
        if answer.at - since > stalls.get(class_of(key), NO_STALL).seconds:
            stalls[class_of(key)] = Stall(answer.at - since, key, since)
    return result


def _was_harmed(request: ClientRequest, harms: Sequence[Harm]) -> bool:
    begin = request.asked.at
    end = request.answer.at if request.answer is not None else float("inf")
    node = request.asked.node
    return any(h.node == node and begin <= h.end and h.begin <= end for h in harms)


def _count_error(request: ClientRequest, errors: Counter[tuple[str, int]]) -> None:
    if request.outcome is not Outcome.OK:
        status = request.answer.status if request.answer is not None else NO_ANSWER
        errors[str(request.asked.kind), status] += 1
