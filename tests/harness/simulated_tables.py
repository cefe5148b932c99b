"""Files of a simulated RocksDB, and how they are read block by block where blocks are damaged.

A block is read when a search or a step gets there, and its checksum tells whether it is what was
written. A search in one file looks at the one block that may have the key; a walk goes through all
files side by side, and ends, not valid any more, where one of them cannot go on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from zlib import crc32

Reads = Callable[[], None]
"""Called for each block that is read; raises where the disk refuses to."""

_ENTRY_BYTES = 8  # What an entry takes beside its key and its value.
_FILTER_MISSES = 100  # One absent key in so many has its block read for nothing.


class Table:
    """An immutable file of sorted entries; the value of one that was deleted is None."""

    def __init__(
        self, name: str, entries: Mapping[bytes, bytes | None], block_bytes: int | None
    ) -> None:
        self.name = name
        self.entries = entries
        self.size = sum(len(key) + len(value or b"") for key, value in entries.items())
        self.size += _ENTRY_BYTES * len(entries)
        self.damaged: set[int] = set()  # Blocks: their checksums do not fit.
        self.refused: str | None = None  # Why it cannot be opened.
        self._block_bytes = block_bytes  # None: one block, that is in memory.

    @cached_property
    def keys(self) -> list[bytes]:
        return sorted(self.entries)

    @cached_property
    def begins(self) -> list[int]:
        """Where each block begins in `keys`, and where the last one ends."""
        begins, size = [0], 0
        for number, key in enumerate(self.keys):
            if self._block_bytes is not None and size >= self._block_bytes:
                begins.append(number)
                size = 0
            size += len(key) + len(self.entries[key] or b"") + _ENTRY_BYTES
        return [*begins, len(self.keys)]

    @cached_property
    def separators(self) -> list[bytes]:
        """Of each block, a key at or after its last and before the next one's first."""
        keys, begins = self.keys, self.begins
        between = [separator(keys[begin - 1], keys[begin]) for begin in begins[1:-1]]
        return [*between, keys[-1]]

    @property
    def blocks(self) -> int:
        return len(self.begins) - 1

    def read(self, block: int, reads: Reads) -> None:
        """Raises what RocksDB does where the block is damaged."""
        if self._block_bytes is None:
            return
        reads()
        if block in self.damaged:
            raise Exception(
                f"Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in"
                f" {self.name} offset {block} size 1"
            )

    def get(self, key: bytes, reads: Reads) -> tuple[bool, bytes | None]:
        """Whether it has an entry of the key, and that one's value."""
        has = key in self.entries
        if has or (crc32(key) % _FILTER_MISSES == 0 and self.keys[0] <= key <= self.keys[-1]):
            self.read(bisect_left(self.separators, key), reads)
        return has, self.entries.get(key)


def separator(key: bytes, following: bytes) -> bytes:
    """A short key at or after `key` and before `following`, as a block index has it."""
    shared = next(
        (at for at, (one, other) in enumerate(zip(key, following, strict=False)) if one != other),
        None,
    )
    if shared is None or key[shared] >= following[shared]:
        return key
    if shared < len(following) - 1 or key[shared] + 1 < following[shared]:
        return key[:shared] + bytes([key[shared] + 1])
    for at in range(shared + 1, len(key)):
        if key[at] < 0xFF:
            return key[:at] + bytes([key[at] + 1])
    return key


def check_blocks(tables: Iterable[Table], reads: Reads) -> None:
    """Read all of them, as a merge does."""
    for table in tables:
        for block in range(table.blocks):
            table.read(block, reads)


class _Place:
    """A walk's place in one table: `at` in its keys, or None behind its end."""

    def __init__(self, table: Table, end: bytes | None, reads: Reads) -> None:
        self.table = table
        self.at: int | None = None
        self._end = end
        self._reads = reads
        self._block = 0

    @property
    def key(self) -> bytes:
        assert self.at is not None
        return self.table.keys[self.at]

    def seek(self, key: bytes) -> None:
        """The first entry at or after `key`."""
        if self._enter(bisect_left(self.table.separators, key)):
            self.at = bisect_left(self.table.keys, key)
            if self.at == self.table.begins[self._block + 1]:
                self._enter_next()

    def seek_for_prev(self, key: bytes) -> None:
        """The last entry at or before `key`."""
        table = self.table
        if self._enter(min(bisect_left(table.separators, key), table.blocks - 1)):
            self.at = bisect_right(table.keys, key) - 1
            if self.at < table.begins[self._block]:
                self._enter_former()

    def seek_to_last(self) -> None:
        if self._enter(self.table.blocks - 1):
            self.at = len(self.table.keys) - 1

    def next(self) -> None:
        assert self.at is not None
        self.at += 1
        if self.at == self.table.begins[self._block + 1]:
            self._enter_next()

    def prev(self) -> None:
        assert self.at is not None
        self.at -= 1
        if self.at < self.table.begins[self._block]:
            self._enter_former()

    def _enter(self, block: int) -> bool:
        if not 0 <= block < self.table.blocks:
            self.at = None
            return False
        self.table.read(block, self._reads)
        self._block = block
        return True

    def _enter_next(self) -> None:
        """Not beyond the walk's end, which the index of blocks tells."""
        if self._end is not None and self._end <= self.table.separators[self._block]:
            self.at = None
        elif self._enter(self._block + 1):
            self.at = self.table.begins[self._block]

    def _enter_former(self) -> None:
        if self._enter(self._block - 1):
            self.at = self.table.begins[self._block + 1] - 1


class BlockwiseIterator:
    """Through tables, the newest first, as far as their blocks can be read: in one direction."""

    def __init__(self, tables: Sequence[Table], end: bytes | None, reads: Reads) -> None:
        self._places = [_Place(table, end, reads) for table in tables if table.keys]
        self._end = end
        self._entry: tuple[bytes, bytes] | None = None
        self._error: str | None = None

    def valid(self) -> bool:
        return self._entry is not None

    def key(self) -> bytes | None:
        return None if self._entry is None else self._entry[0]

    def value(self) -> bytes | None:
        return None if self._entry is None else self._entry[1]

    def status(self) -> None:
        if self._error is not None:
            raise Exception(self._error)

    def seek(self, key: bytes) -> None:
        self._error = None
        self._go([place.seek for place in self._places], self._forwards, key)

    def seek_for_prev(self, key: bytes) -> None:
        if self._end is not None and key >= self._end:
            self.seek_to_last()
        else:
            self._error = None
            self._go([place.seek_for_prev for place in self._places], self._backwards, key)

    def seek_to_last(self) -> None:
        self._error, end = None, self._end
        if end is None:
            self._go([place.seek_to_last for place in self._places], self._backwards)
            return
        self._go([place.seek_for_prev for place in self._places], self._backwards, end)
        if self._entry is not None and self._entry[0] == end:
            self.prev()

    def next(self) -> None:
        assert self._entry is not None
        key = self._entry[0]
        self._go([place.next for place in self._at(key)], self._forwards)

    def prev(self) -> None:
        self._go([], self._backwards)

    def _go(
        self,
        steps: Sequence[Callable[..., None]],
        settle: Callable[[], tuple[bytes, bytes] | None],
        *key: bytes,
    ) -> None:
        self._entry = None
        try:
            for step in steps:
                step(*key)
            self._entry = settle()
        except Exception as error:
            self._error = str(error)  # Not itself, which would hold the frames of its callers.

    def _at(self, key: bytes) -> list[_Place]:
        return [place for place in self._places if place.at is not None and place.key == key]

    def _forwards(self) -> tuple[bytes, bytes] | None:
        """The first entry that was not deleted, from where all places are."""
        while (key := self._furthest(min)) is not None:
            if self._end is not None and key >= self._end:
                return None
            here = self._at(key)
            value = here[0].table.entries[key]
            if value is not None:
                return key, value
            for place in here:
                place.next()
        return None

    def _backwards(self) -> tuple[bytes, bytes] | None:
        """The last one; the places go on before it, since a newer entry might be there."""
        while (key := self._furthest(max)) is not None:
            here = self._at(key)
            for place in here:
                place.prev()
            value = here[0].table.entries[key]
            if value is not None:
                return key, value
        return None

    def _furthest(self, of: Callable[[list[bytes]], bytes]) -> bytes | None:
        keys = [place.key for place in self._places if place.at is not None]
        return of(keys) if keys else None


def newest(tables: Iterable[Table]) -> dict[bytes, bytes | None]:
    """The entries of several tables, oldest first, as one."""
    entries: dict[bytes, bytes | None] = {}
    for table in tables:
        entries.update(table.entries)
    return entries
