"""A digest of a shard's rows, by which nodes compare their copies, and a node its disk with itself.

It is the number of rows and the xor of a hash of each: of its index key, its epoch and seq and all
the rest but where its record lies, which differs from node to node. So a row that comes, goes or
changes moves it by that row's own hash, in any order.

    stored    in the shard's state, in one batch with the rows: exact after any crash
    counted   from the rows themselves, in steps, while they change (`upkeep/shard_counter.py`)
    compared  with that of another node, at the same seq alone

Where it is not known, because an older octad changed the rows, the shard was split or the index was
made anew, it is gathered what the rows change by, until they are counted. What each bucket has of
the rows (`bucket_usage.py`) is kept, changed and counted along with it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

from octad.sharding.hashing import bit_reversed
from octad.sharding.ids import BucketId, Seq, ShardId
from octad.storage_node.index.bucket_usage import BucketUsages, Entry, added, usage_of_row
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    bucket_in_key,
    decode_encoded_location,
    decode_sized,
    encode_value,
    hash_of_row,
    shard_order_key,
)
from octad.storage_node.journal.shard_state import ShardDigest, ShardState

# Goes up with each change of `row_hash`. Another field of an ObjectRow or UploadRow is none: those
# rows are passed on as they were encoded, and where it says nothing, are encoded without it.
FORMAT = 1
RECENT_MAX = 64  # Entries of a shard whose digests are remembered: the time of some messages.


def row_hash(key: bytes, value: bytes) -> int:
    """The row's term in its shard's digest, independent of its record's location."""
    decode = ROW_TABLES[key[0]].decode
    if decode is not None:
        value = encode_value(decode(value))
    return xxh3_64_intdigest(value[1 + len(decode_encoded_location(value).location) :] + key)


class Found(enum.Enum):
    """The result of counting a shard's rows."""

    EQUAL = "equal"
    NOW_KNOWN = "now known"
    DIFFERENT = "different"  # From the stored digest: rows were lost or changed.
    VOID = "void"  # The shard was split meanwhile.


class Count:
    """A count of a shard's rows under way, in the order of table `h`.

    What changes behind `cursor`, where the rows are counted already, is added at once.
    """

    __slots__ = ("cursor", "rows", "shard", "usage", "xor")

    def __init__(self, shard: ShardId, begin: bytes) -> None:
        self.shard = shard
        self.cursor = begin
        self.rows = 0
        self.xor = 0
        self.usage: dict[BucketId, Entry] = {}

    def add(self, key: bytes, value: bytes) -> None:
        """A row that lies at or behind the cursor, which is moved past it before anything else."""
        self._add(key, 1, row_hash(key, value), *usage_of_row(key, value))

    def changed(self, key: bytes, rows: int, xor: int, objects: int, size: int) -> None:
        """The row at `key` has changed the digest and its bucket's usage by so much."""
        if shard_order_key(bit_reversed(hash_of_row(key)), key) < self.cursor:
            self._add(key, rows, xor, objects, size)

    def _add(self, key: bytes, rows: int, xor: int, objects: int, size: int) -> None:
        self.rows += rows
        self.xor ^= xor
        if objects or size:
            added(self.usage, bucket_in_key(key), objects, size)


class _Tally:
    """A shard's digest: that of some moment, if it is known, and what has changed since then."""

    __slots__ = ("base", "count", "is_wrong", "recent", "rows", "seq", "usage_known", "xor")

    def __init__(self, seq: Seq, base: tuple[int, int] | None, *, usage_known: bool) -> None:
        self.seq = seq
        self.base = base
        self.rows = 0
        self.xor = 0
        self.recent: deque[tuple[Seq, int, int]] = deque(maxlen=RECENT_MAX)
        self.count: Count | None = None
        self.usage_known = usage_known
        self.is_wrong = False  # The rows are wrong; the expected digest does not matter.

    def digest(self, rows: int, xor: int) -> ShardDigest | None:
        """Returns the base with these changes; None if it is unknown or wrong."""
        base = self.base
        if base is None or self.is_wrong:
            return None
        return ShardDigest(FORMAT, base[0] + rows, base[1] ^ xor)


_NOTHING = (0, 0)


class ShardDigests:
    """The digests of all shards of a node, from their states and the entries of table `b`.

    A shard without a state has no rows yet.
    """

    def __init__(
        self,
        states: Iterable[tuple[ShardId, ShardState]] = (),
        usages: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self._tallies = {
            shard: _Tally(state.applied, _base_of(state), usage_known=state.usage_known)
            for shard, state in states
        }
        self.usages = BucketUsages(usages)

    # -- rows change ---------------------------------------------------------------------------

    def change(self, shard: ShardId, key: bytes, before: bytes | None, after: bytes | None) -> None:
        """The row at `key` is about to become `after`; None: there is none."""
        tally = self._tallies.get(shard) or self._of(shard)
        rows = xor = objects = size = 0
        if after is not None:
            rows, xor = 1, row_hash(key, after)
            objects, size = usage_of_row(key, after)
        if before is not None:
            rows, xor = rows - 1, xor ^ row_hash(key, before)
            objects_before, size_before = usage_of_row(key, before)
            objects, size = objects - objects_before, size - size_before
        tally.rows += rows
        tally.xor ^= xor
        self.usages.change(shard, key, objects, size)
        if tally.count is not None:
            tally.count.changed(key, rows, xor, objects, size)

    def change_object(
        self, shard: ShardId, seq: Seq, key: bytes, before: bytes | None, after: bytes | None
    ) -> None:
        """`change` and `reach` of by far the most entries, spelled out."""
        tally = self._tallies.get(shard) or self._of(shard)
        rows = xor = size = 0
        if after is not None:
            sized = decode_sized(after)
            xor = xxh3_64_intdigest(after[1 + len(sized.location) :] + key)
            rows, size = 1, sized.row.size
        if before is not None:
            sized = decode_sized(before)
            xor ^= xxh3_64_intdigest(before[1 + len(sized.location) :] + key)
            rows, size = rows - 1, size - sized.row.size
        tally.seq = seq
        tally.rows += rows
        tally.xor ^= xor
        recent = tally.recent
        if recent and recent[-1][0] == seq:  # By another record of the same entry.
            recent.pop()
        recent.append((seq, tally.rows, tally.xor))
        self.usages.change(shard, key, rows, size)
        if tally.count is not None:
            tally.count.changed(key, rows, xor, rows, size)

    def reach(self, shard: ShardId, seq: Seq) -> None:
        """The entry at `seq` has changed all that it changes."""
        tally = self._tallies.get(shard) or self._of(shard)
        tally.seq = seq
        if tally.recent and tally.recent[-1][0] == seq:
            tally.recent.pop()
        tally.recent.append((seq, tally.rows, tally.xor))

    def stand_at(self, shard: ShardId, seq: Seq) -> tuple[ShardDigest | None, bool]:
        """The rows are those of `seq`, though perhaps no entry led there: a log begins anew.

        Returns `now` and `usage_known` of the shard.
        """
        tally = self._tallies.get(shard) or self._of(shard)
        if tally.seq != seq:
            tally.seq = seq
            tally.recent.clear()
        return tally.digest(tally.rows, tally.xor), tally.usage_known

    def forget_past(self, shard: ShardId) -> None:
        """Forget digests at earlier entries: some rows were missing then."""
        self._of(shard).recent.clear()

    def split(self, shard: ShardId, sibling: ShardId) -> None:
        """The halves' digests of a split `shard` are unknown, unless it is empty."""
        tally = self._of(shard)
        empty = tally.digest(tally.rows, tally.xor) == ShardDigest(FORMAT, *_NOTHING)
        base, known = (_NOTHING, tally.usage_known) if empty else (None, False)
        for half in (shard, sibling):
            self._tallies[half] = _Tally(tally.seq, base, usage_known=known)
        self.usages.split(shard, sibling)

    # -- asking --------------------------------------------------------------------------------

    def seq(self, shard: ShardId) -> Seq:
        """Up to where the rows go."""
        return self._of(shard).seq

    def now(self, shard: ShardId) -> ShardDigest | None:
        """None: not known until the rows are counted."""
        tally = self._of(shard)
        return tally.digest(tally.rows, tally.xor)

    def usage_known(self, shard: ShardId) -> bool:
        """Whether the sums of buckets agree with the rows; else they are to be counted."""
        return self._of(shard).usage_known

    def at(self, shard: ShardId, seq: Seq) -> ShardDigest | None:
        """The digest at `seq`; None if that is forgotten, or not reached yet."""
        tally = self._of(shard)
        if seq == tally.seq:
            return tally.digest(tally.rows, tally.xor)
        for known, rows, xor in reversed(tally.recent):
            if known == seq:
                return tally.digest(rows, xor)
        return None

    # -- counting ------------------------------------------------------------------------------

    def begin_count(self, shard: ShardId, begin: bytes) -> Count:
        """Count the rows from the key `begin` of table `h` on. Ends an earlier count of them."""
        count = self._of(shard).count = Count(shard, begin)
        return count

    def counted(self, count: Count) -> Found:
        """Compare with the full `count`. Once different, the shard stays so, without a digest."""
        tally = self._of(count.shard)
        if tally.count is not count:
            return Found.VOID
        tally.count = None
        self.usages.replace(count.shard, count.usage)
        tally.usage_known = True
        kept = tally.digest(tally.rows, tally.xor)
        if kept == ShardDigest(FORMAT, count.rows, count.xor):
            return Found.EQUAL
        if kept is not None or tally.is_wrong:
            tally.is_wrong = True
            return Found.DIFFERENT
        tally.base = (count.rows - tally.rows, count.xor ^ tally.xor)
        return Found.NOW_KNOWN

    def _of(self, shard: ShardId) -> _Tally:
        tally = self._tallies.get(shard)
        if tally is None:
            tally = self._tallies[shard] = _Tally(Seq(0), _NOTHING, usage_known=True)
        return tally


def _base_of(state: ShardState) -> tuple[int, int] | None:
    digest = state.digest
    return None if digest is None or digest.format != FORMAT else (digest.rows, digest.xor)
