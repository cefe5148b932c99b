"""The index as a dictionary that forgets what was not flushed, as RocksDB without its log does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import Scan
from octad.storage_node.journal.disk_reserve import IndexRoom

_Batch = tuple[list[tuple[bytes, bytes]], list[bytes]]


class TwinIndex(CountedIndex):
    """`after_crash` gives what a restart finds: all up to a flush, and any batches after it."""

    def __init__(self, content: dict[bytes, bytes] | None = None) -> None:
        self.directory = Path("/data/index")
        self._content = content or {}
        self._flushed = dict(self._content)
        self._batches: list[_Batch] = []
        self._begin()

    def after_crash(self, rng: random.Random) -> TwinIndex:
        content = dict(self._flushed)
        for batch in self._batches[: rng.choice([0, rng.randint(0, len(self._batches))])]:
            _apply(content, batch)
        return TwinIndex(content)

    def get(self, key: bytes) -> bytes | None:
        return self._content.get(key)

    def _write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        batch = list(puts), list(deletes)
        _apply(self._content, batch)
        self._batches.append(batch)

    def scan(self, start: bytes, end: bytes | None = None, *, reverse: bool = False) -> Scan:
        found = sorted(
            item
            for item in self._content.items()
            if item[0] >= start and (not end or item[0] < end)
        )
        items: Iterator[tuple[bytes, bytes]] = iter(found[::-1] if reverse else found)
        return cast("Scan", items)

    def room(self) -> IndexRoom:
        stored = sum(len(key) + len(value) for key, value in self._content.items())
        return IndexRoom(0, stored, len(self._content))

    def _flush(self) -> None:
        self._flushed = dict(self._content)
        self._batches = []

    def close(self) -> None:
        self._flush()


def _apply(content: dict[bytes, bytes], batch: _Batch) -> None:
    content.update(batch[0])
    for key in batch[1]:
        content.pop(key, None)
