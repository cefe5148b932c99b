"""The embedded store's protocol over HTTP, in JSON.

    POST /config/v1/<call>: the call's question in, its answer out; bytes are in base64
    POST /config/v1/watch:  the answer is a stream of lines `<mac> <WatchLine>`, one at least every
                            second, each signed with its number in the place of the status

Requests and answers are signed as in `octad.client.cluster.internal_auth`, with the key for
PURPOSE. Answers but errors are the interface's own types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from octad.coordinator.store.interface import (
    Compare,
    Delete,
    EventBatch,
    LeaseId,
    ModRevisionIs,
    NoneNewer,
    Put,
    Revision,
    StoreOperation,
    ValueIs,
)

PURPOSE = "config-store"
PATH = "/config/v1/"

ErrorKind = Literal[
    "bad-request", "compacted", "lease-expired", "not-authentic", "sign-again", "unavailable"
]
STATUS_BY_ERROR: dict[ErrorKind, int] = {
    "bad-request": 400,
    "not-authentic": 401,
    "sign-again": 401,
    "lease-expired": 409,
    "compacted": 410,
    "unavailable": 503,
}


class RangeQuestion(msgspec.Struct, frozen=True):
    prefix: str
    revision: Revision | None = None


class GetQuestion(msgspec.Struct, frozen=True):
    key: str


class CompareWire(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ValueIs where there is a value; a NoneNewer where it says so; else a ModRevisionIs.

    A server that does not know `none_newer` refuses the transaction: a prefix is no key.
    """

    key: str
    revision: Revision = Revision(0)
    value: bytes | None = None
    none_newer: bool = False


class OperationWire(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Put where there is a value, else a Delete."""

    key: str
    value: bytes | None = None
    lease: LeaseId = LeaseId(0)


class TransactQuestion(msgspec.Struct, frozen=True):
    compares: tuple[CompareWire, ...]
    operations: tuple[OperationWire, ...]


class GrantLeaseQuestion(msgspec.Struct, frozen=True):
    ttl_s: float


class LeaseQuestion(msgspec.Struct, frozen=True):
    lease: LeaseId


class WatchQuestion(msgspec.Struct, frozen=True):
    prefix: str
    after: Revision


class ErrorAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`now_ms` and `audience`: when and for whom to sign again."""

    error: ErrorKind
    message: str
    now_ms: int = 0
    audience: str = ""


class WatchLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch, or the error that ended the watch."""

    batch: EventBatch | None = None
    error: ErrorAnswer | None = None


def transact_question(
    compares: Sequence[Compare], operations: Sequence[StoreOperation]
) -> TransactQuestion:
    """A transaction as it is sent."""
    return TransactQuestion(
        tuple(
            CompareWire(compare.key, value=compare.value)
            if isinstance(compare, ValueIs)
            else CompareWire(
                compare.key, compare.revision, none_newer=isinstance(compare, NoneNewer)
            )
            for compare in compares
        ),
        tuple(
            OperationWire(operation.key, operation.value, operation.lease)
            if isinstance(operation, Put)
            else OperationWire(operation.key)
            for operation in operations
        ),
    )


def transaction_of(question: TransactQuestion) -> tuple[list[Compare], list[StoreOperation]]:
    """The inverse of `transact_question`."""
    compares: list[Compare] = [
        ValueIs(wire.key, wire.value)
        if wire.value is not None
        else (NoneNewer if wire.none_newer else ModRevisionIs)(wire.key, wire.revision)
        for wire in question.compares
    ]
    operations: list[StoreOperation] = [
        Delete(wire.key) if wire.value is None else Put(wire.key, wire.value, wire.lease)
        for wire in question.operations
    ]
    return compares, operations
