"""From a name to a shard. Part of the on-disk and wire format: it never changes.

    hash  = xxh3_64(bucket_id as 4 big-endian bytes, then the key)
    shard = hash & (2^depth - 1), within the bucket's pool

The index keeps rows in the order of the *bit-reversed* hash, where a shard of any depth is one
contiguous range: splitting a shard rewrites nothing.
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

from octad.sharding.ids import BucketId

HASH_BITS = 64
_REVERSED_BYTE = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


placed_hash = xxh3_64_intdigest  # For a name whose bucket and key are already joined.


def object_hash(bucket: BucketId, key: bytes) -> int:
    """The 64-bit hash of `key` in `bucket`."""
    return placed_hash(bucket.to_bytes(4, "big") + key)


def shard_number(hash_: int, depth: int) -> int:
    """The shard that `hash_` falls into when there are 2^`depth` of them."""
    return hash_ & ((1 << depth) - 1)


def bit_reversed(hash_: int) -> bytes:
    """`hash_` with its 64 bits in opposite order, as 8 big-endian bytes: the index's order."""
    return hash_.to_bytes(8, "little").translate(_REVERSED_BYTE)


def bit_reversed_range(number: int, depth: int) -> tuple[bytes, bytes | None]:
    """First prefix inside and first prefix past shard `number` at `depth`, in the index's order.

    The end is None where the shard reaches to the end of the order.
    """
    start = int.from_bytes(bit_reversed(number), "big")
    end = start + (1 << (HASH_BITS - depth))
    return start.to_bytes(8, "big"), None if end >> HASH_BITS else end.to_bytes(8, "big")
