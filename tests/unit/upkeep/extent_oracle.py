"""What extents are alive, by the obvious means: sets of ids, changed by the same operations.

`ExtentScript` turns any list of small numbers into operations that a shard could be asked for, so
that hypothesis can shrink a story that fails.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import strategies as st
from tests.unit.engine.engine_site import BUCKET

from octad.sharding.ids import Seq
from octad.sharding.limits import MIB
from octad.storage_node.index.rows import ExtentRef, ObjectExtras, ObjectRow, PartRow, UploadRow
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    CompleteUpload,
    CreateUpload,
    DeleteObject,
    DropExtent,
    ForgetExtents,
    Operation,
    PutObject,
    PutPart,
    PutPiece,
    QueueExtents,
    complete_upload,
    create_upload,
    put_object,
)

KEYS = [b"a", b"a\x00", b"b"]
UPLOADS = [bytes([number]) * 16 for number in range(3)]
PIECES = 2  # Every extent has so many.

Extents = tuple[ExtentRef, ...]
Step = tuple[int, int, int, int]
STEPS = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    max_size=60,
)


@dataclass
class ExtentOracle:
    """What the rows name, what waits in the queue, what pieces are there."""

    objects: dict[bytes, Extents] = field(default_factory=dict)
    parts: dict[tuple[bytes, bytes], dict[int, Extents]] = field(default_factory=dict)
    queue: dict[tuple[bytes, Seq], set[bytes]] = field(default_factory=dict)
    pieces: set[tuple[bytes, int]] = field(default_factory=set)

    def named(self) -> set[bytes]:
        parts = (extents for upload in self.parts.values() for extents in upload.values())
        return {each.id for extents in (*self.objects.values(), *parts) for each in extents}

    def apply(self, operation: Operation, seq: Seq) -> None:
        before = self.named()
        match operation:
            case PutObject(key=key, row=row):
                self.objects[key] = row.extents
            case DeleteObject(key=key):
                self.objects.pop(key, None)
            case PutPiece(extent=extent, number=number):
                self.pieces.add((extent, number))
            case CreateUpload(key=key, upload=upload):
                self.parts[key, upload] = {}
            case PutPart(key=key, upload=upload, number=number, row=part):
                self.parts[key, upload][number] = part.extents
            case CompleteUpload(key=key, upload=upload, row=row):
                del self.parts[key, upload]
                self.objects[key] = row.extents
            case AbortUpload(key=key, upload=upload):
                del self.parts[key, upload]
            case QueueExtents(key=key, extents=extents):
                self.queue[key, seq] = {each.id for each in extents}
            case DropExtent(extent=extent):
                self.pieces = {each for each in self.pieces if each[0] != extent}
            case ForgetExtents(key=key, queued=queued):
                self.queue.pop((key, queued), None)
        dead = before - self.named()
        if dead:
            self.queue[operation.key, seq] = dead  # type: ignore[attr-defined]


class ExtentScript:
    """Gives the operations of a step; `oracle` has seen all that were given."""

    def __init__(self) -> None:
        self.oracle = ExtentOracle()
        self.operations: list[Operation] = []
        self._ids = itertools.count(1)

    def step(self, step: Step) -> list[Operation]:
        """Nothing where the step makes no sense at this moment."""
        kind, which, upload_number, count = step
        key, upload = KEYS[which], UPLOADS[upload_number]
        parts = self.oracle.parts.get((key, upload))
        first = len(self.operations)
        if kind in (0, 1):
            extents = self.write(key, b"", count)
            self.do(put_object(BUCKET, key, ObjectRow(count, "", 0, extents=extents)))
        elif kind == 2:
            self.do(DeleteObject(BUCKET, key))
        elif kind == 3:
            self.write(key, b"" if parts is None else upload, count)  # The client breaks off.
        elif kind == 4 and parts is None:
            self.do(create_upload(BUCKET, key, upload, UploadRow(0, "")))
        elif kind in (5, 6, 7) and parts is not None:
            extents = self.write(key, upload, 1 + count % 2)
            self.do(PutPart(BUCKET, key, upload, count, PartRow(1, "", 0, extents=extents)))
        elif kind == 8 and parts is not None:
            chosen = sorted(parts)[: max(1, count)]
            whole = tuple(each for number in chosen for each in parts[number])
            row = ObjectRow(1, "", 0, extents=whole)
            self.do(complete_upload(BUCKET, key, upload, row, tuple(parts)))
        elif kind == 9 and parts is not None:
            self.do(AbortUpload(BUCKET, key, upload, tuple(parts)))
        elif kind == 10 and key in self.oracle.objects:
            kept, extras = self.oracle.objects[key], ObjectExtras({"count": str(count)})
            self.do(put_object(BUCKET, key, ObjectRow(1, "", 0, extents=kept, extras=extras)))
        return self.operations[first:]

    def write(self, key: bytes, upload: bytes, count: int) -> Extents:
        """New extents, which no row names yet."""
        extents: list[ExtentRef] = []
        for _ in range(count):
            extent = next(self._ids).to_bytes(16, "big")
            extents.append(ExtentRef(extent, PIECES * MIB))
            for number in range(PIECES):
                self.do(PutPiece(extent, number, BUCKET, key, upload, 1))
        return tuple(extents)

    def do(self, operation: Operation) -> None:
        """It is the shard's next entry."""
        self.operations.append(operation)
        self.oracle.apply(operation, Seq(len(self.operations)))

    def forget_behind(self, applied: int) -> None:
        """A crash took what came after the first `applied` operations."""
        del self.operations[applied:]
        self.oracle = ExtentOracle()
        for seq, operation in enumerate(self.operations, start=1):
            self.oracle.apply(operation, Seq(seq))
