"""One change on its way from a front door to the log of its shard: a value that never changes.

It is made where the request is received, and again at the primary if that is another node. The
operation is encoded once and its key is hashed once at each of the two. A guard decides what is
ordered of its write; until then the operation only says what it is about.
"""

from __future__ import annotations

from typing import Any

import msgspec

from octad.sharding.ids import Epoch
from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    Operation,
    PutObject,
    PutPart,
    Refused,
    decode_operation,
    encode_operation,
    hash_of_operation,
    kind_of,
)
from octad.storage_node.operations.kind import Proposer
from octad.storage_node.operations.registry import declared
from octad.storage_node.replication.guards import (
    Guard,
    Refusal,
    conditional,
    part_of_open_upload,
)

ANY_EPOCH = Epoch(0)  # Below all: a try that may always be executed.


class Write(msgspec.Struct, frozen=True, eq=False, gc=False):
    """See the module. `data` must not change until the write is answered."""

    kind: RecordKind
    operation: Operation
    metadata: bytes  # The operation, encoded.
    hash: int  # The hash of its key or extent, which decides the shard.
    request_id: bytes
    data: bytes | memoryview = b""
    age_s: float = 0.0  # How long before this try the first was made that may have taken effect.
    asked_in: Epoch = ANY_EPOCH  # The epoch by which this try was sent (rule R3).
    guard: Guard | None = None
    condition: Condition | None = None  # What its guard checks, as sent to the primary.

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether another front door may hold an earlier try of it: an SDK has tried before.

        A front door's own tries never become so old.
        """
        return self.age_s >= SDK_RETRY_AGE_S

    def decided(self, decision: Operation | Refusal) -> Write:
        """The write to order after its guard's decision; a refusal is an entry, too."""
        if decision is self.operation:
            return self
        data = self.data
        if isinstance(decision, Refusal):
            about: Any = self.operation  # Only operations about a key have guards.
            decision, data = Refused(about.bucket, about.key, decision.code), b""
        kind, metadata = kind_of(decision), encode_operation(decision)
        return msgspec.structs.replace(
            self, kind=kind, operation=decision, metadata=metadata, data=data
        )


def write_of(
    operation: Operation,
    request_id: bytes,
    data: bytes | memoryview = b"",
    age_s: float = 0.0,
    asked_in: Epoch = ANY_EPOCH,
    guard: Guard | None = None,
    condition: Condition | None = None,
) -> Write:
    """The write of `operation`, or of what `guard` makes of it, or only under `condition`."""
    metadata, hash_ = encode_operation(operation), hash_of_operation(operation)
    kind, guard = kind_of(operation), guard or _own_guard(operation, condition)
    return Write(
        kind, operation, metadata, hash_, request_id, data, age_s, asked_in, guard, condition
    )


def received_write(
    kind: RecordKind,
    metadata: bytes,
    request_id: bytes,
    data: memoryview,
    age_s: float,
    asked_in: Epoch,
    condition: Condition | None = None,
) -> Write:
    """The write that another node sent here. Raises ValueError if no client can write it."""
    operation = decode_operation(kind, metadata)
    if declared(operation).proposer is Proposer.PRIMARY:
        raise ValueError(f"a {type(operation).__name__} is not for a client to propose")
    hash_, guard = hash_of_operation(operation), _own_guard(operation, condition)
    return Write(
        kind, operation, metadata, hash_, request_id, data, age_s, asked_in, guard, condition
    )


def _own_guard(operation: Operation, condition: Condition | None) -> Guard | None:
    if condition is not None:
        if not isinstance(operation, PutObject | DeleteObject):
            raise ValueError(f"a {type(operation).__name__} takes no condition")
        return conditional(condition, operation)
    return part_of_open_upload(operation) if type(operation) is PutPart else None
