"""A node's snapshot of the configuration store, a file, in case the store is ever lost.

    8 bytes   "OCTADKP1"
    entries:  u32 length | u64 xxh3 of the payload | payload (msgpack), numbers little-endian

The first payload names the file's owner; every other one is a changed key of the configuration
store. An entry replaces earlier ones of its key. A file that ends in the middle of an entry was
cut off by a crash: everything before that is valid. An entry of the empty key only says how new the
file is: a rewrite adds one for the deletions it drops.

It has the configurations of shards that the node ever held a part of, and all records of the
cluster that do not belong to one process (`in_snapshot`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from xxhash import xxh3_64_intdigest

from octad.coordinator.schema.records import StoreKeys
from octad.sharding.ids import NodeId

FILE_NAME = "cluster.kept"
SNAPSHOT_PATH = "/node/v1/kept"  # A live node's; needs the key for this purpose.
SNAPSHOT_PURPOSE = "node-kept"
MAGIC = b"OCTADKP1"
_FRAME = struct.Struct("<IQ")
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
# Records of processes, or of work under way: of no use to another store.
_EXCLUDED = (
    "nodes/",
    "leader",
    "life",
    "fence/",
    "plans/",
    "progress/",
    "operation",
    "targets/",
    "usage/",
    "bucket-usage/",
    "reports/",
    "deaths/",
    "filled-anew",
    "services/",
    "sessions/",
    "claims/",
    "locks/",
)


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """The owner of the file."""

    cluster: str
    node: NodeId
    incarnation: str


class SnapshotEntry(msgspec.Struct, frozen=True, array_like=True):
    """A key (without the cluster's prefix) as of a revision; value None: it was deleted.

    Revisions of different stores cannot be compared, so the store's generation stands before them.
    """

    key: str
    value: bytes | None
    generation: int
    revision: int


class NotASnapshot(ValueError):
    """The bytes are not such a file."""


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """The contents of one file. `seen` is the newest (generation, revision) in it."""

    header: SnapshotHeader
    entries: Mapping[str, SnapshotEntry]
    seen: tuple[int, int]
    valid_bytes: int = 0
    torn_bytes: int = 0
    superseded: int = field(default=0)  # Entries that a rewriting would drop.


def in_snapshot(keys: StoreKeys, key: str) -> bool:
    """Whether `key` belongs to the cluster and not to a process."""
    rest = key.removeprefix(keys.prefix)
    return key.startswith(keys.prefix) and not rest.startswith(_EXCLUDED)


def encode_snapshot(
    header: SnapshotHeader, entries: Iterable[SnapshotEntry], seen: tuple[int, int] = (0, 0)
) -> bytes:
    """A complete file."""
    newest = SnapshotEntry("", None, *seen)
    return MAGIC + _framed(header) + b"".join(map(_framed, (*entries, newest)))


def encode_entry(entry: SnapshotEntry) -> bytes:
    """Returns the bytes to append for one change."""
    return _framed(entry)


def decode_snapshot(data: bytes) -> ClusterSnapshot:
    """The inverse of both; raises NotASnapshot for another file, or one without a header."""
    if not data.startswith(MAGIC):
        raise NotASnapshot("it does not begin like one")
    payloads: list[memoryview] = []
    position, view = len(MAGIC), memoryview(data)
    while (payload := _payload(view, position)) is not None:
        payloads.append(payload)
        position += _FRAME.size + len(payload)
    if not payloads:
        raise NotASnapshot("it has no header")
    try:
        header = msgspec.msgpack.decode(payloads[0], type=SnapshotHeader)
        changes = [msgspec.msgpack.decode(each, type=SnapshotEntry) for each in payloads[1:]]
    except msgspec.DecodeError as error:
        raise NotASnapshot(str(error)) from error
    entries: dict[str, SnapshotEntry] = {}
    for change in changes:
        if change.value is None:
            entries.pop(change.key, None)
        else:
            entries[change.key] = change
    seen = max(((each.generation, each.revision) for each in changes), default=(0, 0))
    superseded = sum(1 for change in changes if change.key) - len(entries)
    return ClusterSnapshot(header, entries, seen, position, len(data) - position, superseded)


def _framed(record: SnapshotHeader | SnapshotEntry) -> bytes:
    payload = msgspec.msgpack.encode(record)
    assert len(payload) <= PAYLOAD_BYTES_MAX, "the store takes no such value"
    return _FRAME.pack(len(payload), xxh3_64_intdigest(payload)) + payload


def _payload(data: memoryview, position: int) -> memoryview | None:
    if len(data) - position < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack_from(data, position)
    start = position + _FRAME.size
    payload = data[start : start + length]
    if length > PAYLOAD_BYTES_MAX or len(payload) < length:
        return None
    return payload if xxh3_64_intdigest(payload) == checksum else None
