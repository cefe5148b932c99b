"""The documents of checkpoints: head, page, record of a begin, manifest, collection.

Each is one JSON object of one line. Its last field, `sha256`, is of the bytes before it (from `{`
up to, not including, `,"sha256"`), so that what was cut off, or edited by hand, is noticed. A
reader takes fields that it does not know for granted, but no `format` above its own. Drawn with
examples in `docs/reference/checkpoints.md`.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, TypeVar

import msgspec

from octad.client.checkpoints.rules.errors import CheckpointDamaged, CheckpointTooNew

FORMAT: Final = 1
_SEAL: Final = b',"sha256":"'
_SEAL_BYTES: Final = len(_SEAL) + 64 + len(b'"}')


class Offset(msgspec.Struct, frozen=True):
    """How far a job had read a partition: the first offset that its state does not cover."""

    topic: str
    partition: int
    offset: int


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checkpoint, as the kept list has it. `time`: seconds since 1970."""

    id: str
    time: float
    bytes: int
    added: int  # Bytes that it was the first to store.
    offsets: tuple[Offset, ...] = ()
    pinned: bool = False  # Retention leaves it alone.
    label: str = ""


class Page(msgspec.Struct, frozen=True):
    """Where older entries of the kept list are: an object of that name with so many."""

    name: str
    count: int


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job as it is now. `change` is new with each write, so that no two heads are equal."""

    format: int
    job: str
    epoch: int
    nonce: str
    change: str
    id: str = ""  # The newest checkpoint.
    previous: str = ""
    offsets: tuple[Offset, ...] = ()
    pages: tuple[Page, ...] = ()  # Oldest first.
    kept: tuple[Kept, ...] = ()  # Oldest first; newer than all of the pages'.
    reader_since: float = 0.0  # Not 0: no job, but someone who restores for as long as this is.


class KeptPage(msgspec.Struct, frozen=True):
    """Older entries of a kept list, oldest first. Never changed."""

    format: int
    kept: tuple[Kept, ...]


class Base(msgspec.Struct, frozen=True):
    """A checkpoint of some job."""

    job: str
    id: str


class Begin(msgspec.Struct, frozen=True):
    """Says of a begin which checkpoints of other jobs it reads, or builds on."""

    format: int
    bases: tuple[Base, ...]


class Part(msgspec.Struct, frozen=True):
    """Bytes of a file: all of the data object `data`. `xxh3`: 128 bits, to compare quickly."""

    data: str
    size: int
    xxh3: str


class File(msgspec.Struct, frozen=True):
    """A file of a checkpoint: its parts in their order."""

    path: str
    size: int
    parts: tuple[Part, ...] = ()


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checkpoint. `previous`: the one that the job's state came from."""

    format: int
    job: str
    id: str
    time: float
    previous: str = ""
    offsets: tuple[Offset, ...] = ()
    metadata: dict[str, Any] = {}
    files: tuple[File, ...] = ()


class Collection(msgspec.Struct, frozen=True):
    """Which collection of a prefix began last."""

    format: int
    token: str


Document = Head | KeptPage | Begin | Manifest | Collection
Sealed = TypeVar("Sealed", Head, KeptPage, Begin, Manifest, Collection)


class _Version(msgspec.Struct):
    format: int


def sealed(document: Document) -> bytes:
    """The bytes of a document."""
    body = msgspec.json.encode(document)
    return body[:-1] + _SEAL + hashlib.sha256(body[:-1]).hexdigest().encode() + b'"}'


def opened(data: bytes, kind: type[Sealed], key: str) -> Sealed:
    """The document in an object's bytes. Raises CheckpointDamaged, CheckpointTooNew."""
    try:
        version = msgspec.json.decode(data, type=_Version).format
    except msgspec.DecodeError as error:
        raise _damaged(key, f"is no document of a checkpoint ({error})") from error
    if version > FORMAT:
        raise CheckpointTooNew(key, version, FORMAT)
    body, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    if seal != _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}':
        raise _damaged(key, "was edited, or cut off: its sha256 is another one")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise _damaged(key, f"is no {kind.__name__.lower()} ({error})") from error


def _damaged(key: str, what: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"{key} {what}", "nothing was changed; see what still restores: octad checkpoint audit"
    )
