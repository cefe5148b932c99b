"""Compares a node's free disk space with the reserve of `journal/disk_reserve.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.disk_reserve import (
    FREEING_KINDS,
    VITAL_KINDS,
    IndexRoom,
    OnDisk,
    reserve_of,
    room_to_copy,
)
from octad.storage_node.journal.record_format import RecordKind

_NEARLY_SEGMENTS = 4  # Above the reserve.
_INDEX_S = 0.5  # Between two looks at all files of the index; callers ask many times a second.


def _no_index() -> IndexRoom:
    return IndexRoom(0, 0, 0)


class DiskRoom:
    """For the disk that `directory` is on, shared by `nodes` nodes."""

    def __init__(self, disk: Disk, directory: Path, segment_bytes: int, nodes: int) -> None:
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._nodes = nodes
        self._index: Callable[[], IndexRoom] = _no_index
        self._asked_at = -_INDEX_S
        self._to_be_free = 0

    def leave_free(self, index: Callable[[], IndexRoom]) -> None:
        """The index is on the same disk: it is left room to merge and to take deletes."""
        self._index = index

    def free_bytes(self) -> int:
        return self._disk.free_bytes(self._directory)

    def is_full(self) -> bool:
        """Whether nothing is to be taken but what frees space."""
        now = time.monotonic()
        if now >= self._asked_at + _INDEX_S:
            self._asked_at, self._to_be_free = now, reserve_of(self._on_disk()).puts
        return self.free_bytes() < self._to_be_free

    def nearly_full(self) -> bool:
        """Whether compaction should hurry, and take fuller segments."""
        above = _NEARLY_SEGMENTS * self._segment_bytes
        return self.free_bytes() < reserve_of(self._on_disk()).puts + above

    def reserve_for(self, kind: RecordKind, *, ordered: bool) -> int:
        """The bytes that must be free to begin another segment for a record of `kind`."""
        reserve = reserve_of(self._on_disk())
        if kind in VITAL_KINDS:
            return reserve.vital
        if kind in FREEING_KINDS:
            return reserve.deletes
        return reserve.puts_ordered if ordered else reserve.puts

    def room_to_copy(self) -> int:
        """The bytes that compaction may write before it frees anything."""
        return room_to_copy(self._on_disk(), self.free_bytes())

    def _on_disk(self) -> OnDisk:
        capacity = self._disk.capacity_bytes(self._directory)
        return OnDisk(capacity, self._segment_bytes, self._index(), self._nodes)
