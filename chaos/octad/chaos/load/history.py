"""The history of a run: every client's requests and answers, with times. JSON lines.

    {"type":"invoke","id":7,"at":1.25,"client":3,"node":2,"kind":"put","keys":["small-4"],"value":"v7"}
    {"type":"return","id":7,"at":1.26,"outcome":"ok","status":200}

Times are seconds of one monotonic clock. A line that was never followed by its `return` is a
request that was under way when the run ended: its outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

ANY = "*"  # As `if_match`: no condition.
NOT_MET = (404, 412)  # The statuses of a write whose condition did not hold.


class Kind(StrEnum):
    """A client's operation. A multipart upload counts as the PUT that its completion is."""

    PUT = "put"
    DELETE = "delete"
    GET = "get"
    LIST = "list"

    @property
    def is_write(self) -> bool:
        return self in (Kind.PUT, Kind.DELETE)


class Outcome(StrEnum):
    """The outcome as the client knows it."""

    OK = "ok"
    FAILED = "failed"  # Certainly without effect.
    UNKNOWN = "unknown"  # Perhaps it happened, perhaps it will, perhaps never.


class Invoked(msgspec.Struct, frozen=True, tag_field="type", tag="invoke", omit_defaults=True):
    """A request is about to be sent. `value` names what a PUT writes; None for a DELETE.

    `if_match` is its condition: the expected value, None: no object.
    """

    id: int
    at: float
    client: int
    node: int
    kind: Kind
    keys: tuple[str, ...]
    value: str | None = None
    if_match: str | None = ANY


class Returned(msgspec.Struct, frozen=True, tag_field="type", tag="return", omit_defaults=True):
    """Its answer, or what came instead of one. `seen` is what a GET or LIST showed of its keys.

    A failed condition is an answer, and OK. `status` is 0 where there was none.
    `error` is for people.
    """

    id: int
    at: float
    outcome: Outcome
    status: int = 0
    seen: dict[str, str | None] = {}
    error: str = ""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request and its answer, which is None while there is none."""

    asked: Invoked
    answer: Returned | None

    @property
    def outcome(self) -> Outcome:
        return self.answer.outcome if self.answer is not None else Outcome.UNKNOWN


Line = Invoked | Returned
_encode = msgspec.json.Encoder().encode


def encode_line(line: Line) -> bytes:
    """`line` as it stands in the file, with its newline."""
    return _encode(line) + b"\n"


def client_requests(lines: Iterable[Line]) -> list[ClientRequest]:
    """Requests with their answers, in the order in which they were asked."""
    asked: dict[int, Invoked] = {}
    answers: dict[int, Returned] = {}
    for line in lines:
        if isinstance(line, Invoked):
            asked[line.id] = line
        else:
            answers[line.id] = line
    return [ClientRequest(invoked, answers.get(number)) for number, invoked in asked.items()]
