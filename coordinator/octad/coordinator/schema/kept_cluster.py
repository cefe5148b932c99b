"""The file in which a node keeps what it knows of the cluster, in case the store is ever lost.

    8 bytes   "OCTADKP1"
    entries:  u32 length | u64 xxh3 of the payload | payload (msgpack), numbers little-endian

The first payload says whose file it is; every other one is a key of the configuration store as it
became. An entry replaces earlier ones of its key. A file that ends in the middle of an entry was
cut off by a crash: what is before that counts. An entry of the empty key only says how new the
file is: a rewriting puts one in for the deletions it drops.

Kept are the configurations of shards that the node ever held a part of, and everything of the
cluster that is not a process's own (`is_kept`).
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
KEPT_PATH = "/node/v1/kept"  # Where a live node gives it, to a holder of the key for the purpose.
KEPT_PURPOSE = "node-kept"
MAGIC = b"OCTADKP1"
_FRAME = struct.Struct("<IQ")
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
# Of processes, or of work under way: worth nothing to another store.
_NOT_KEPT = (
    "nodes/",
    "leader",
    "life",
    "fence/",
    "plans/",
    "progress/",
    "operation",
    "targets/",
    "usage/",
    "reports/",
    "deaths/",
    "filled-anew",
    "services/",
    "sessions/",
    "claims/",
)


class KeptHeader(msgspec.Struct, frozen=True, array_like=True):
    """Whose file it is."""

    cluster: str
    node: NodeId
    incarnation: str


class KeptEntry(msgspec.Struct, frozen=True, array_like=True):
    """A key (without the cluster's prefix) as of a revision; value None: it was deleted.

    Revisions of different stores cannot be compared, so the store's generation stands before them.
    """

    key: str
    value: bytes | None
    generation: int
    revision: int


class NotKept(ValueError):
    """The bytes are not such a file."""


@dataclass(frozen=True, slots=True)
class KeptCluster:
    """What one file holds. `seen` is the newest (generation, revision) in it."""

    header: KeptHeader
    entries: Mapping[str, KeptEntry]
    seen: tuple[int, int]
    valid_bytes: int = 0
    torn_bytes: int = 0
    superseded: int = field(default=0)  # Entries that a rewriting would drop.


def is_kept(keys: StoreKeys, key: str) -> bool:
    """Whether `key` belongs to the cluster and not to a process."""
    rest = key.removeprefix(keys.prefix)
    return key.startswith(keys.prefix) and not rest.startswith(_NOT_KEPT)


def encode_kept(
    header: KeptHeader, entries: Iterable[KeptEntry], seen: tuple[int, int] = (0, 0)
) -> bytes:
    """A whole file."""
    newest = KeptEntry("", None, *seen)
    return MAGIC + _framed(header) + b"".join(map(_framed, (*entries, newest)))


def encode_entry(entry: KeptEntry) -> bytes:
    """What is appended for one change."""
    return _framed(entry)


def decode_kept(data: bytes) -> KeptCluster:
    """The inverse of both; raises NotKept for what is no such file, or not even begun."""
    if not data.startswith(MAGIC):
        raise NotKept("it does not begin like one")
    payloads: list[memoryview] = []
    position, view = len(MAGIC), memoryview(data)
    while (payload := _payload(view, position)) is not None:
        payloads.append(payload)
        position += _FRAME.size + len(payload)
    if not payloads:
        raise NotKept("it has no header")
    try:
        header = msgspec.msgpack.decode(payloads[0], type=KeptHeader)
        changes = [msgspec.msgpack.decode(each, type=KeptEntry) for each in payloads[1:]]
    except msgspec.DecodeError as error:
        raise NotKept(str(error)) from error
    entries: dict[str, KeptEntry] = {}
    for change in changes:
        if change.value is None:
            entries.pop(change.key, None)
        else:
            entries[change.key] = change
    seen = max(((each.generation, each.revision) for each in changes), default=(0, 0))
    superseded = sum(1 for change in changes if change.key) - len(entries)
    return KeptCluster(header, entries, seen, position, len(data) - position, superseded)


def _framed(record: KeptHeader | KeptEntry) -> bytes:
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
