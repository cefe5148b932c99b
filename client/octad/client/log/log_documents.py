"""The JSON documents of the log's HTTP (`docs/reference/log-http.md`).

Scripts rely on them: fields are added, never renamed or given another meaning.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Final

import msgspec

TOPICS_PATH: Final = "/v1/topics"
JSON_TYPE: Final = "application/json"
BATCHES_TYPE: Final = "application/vnd.octad.record-batches"
EVENTS_TYPE: Final = "text/event-stream"
START, END = "start", "end"
FENCES: Final = "fences"
PINS: Final = "pins"

# Of an answer whose body is batches.
START_HEADER: Final = "Octad-Log-Start"
NEXT_HEADER: Final = "Octad-Next-Offset"
MARK_HEADER: Final = "Octad-High-Water-Mark"


class RefusalDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request is refused: `code` for programs, `reason` for people."""

    code: str
    reason: str
    next_offset: int | None = None  # Where the log ends, if that was wrong.
    token: int | None = None  # That stands for the job, if it was fenced.


class TopicRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that is to be made; `pool`: the name of one, or the usual one.

    `config`: settings by Kafka's names; those left out have their defaults.
    """

    partitions: int = 1
    pool: str = ""
    config: dict[str, str] = {}


class AlterRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that are to change; null: to the default."""

    config: dict[str, str | None]


class PartitionDocument(msgspec.Struct, frozen=True):
    """The first offset of a partition that may be read, and the one behind its last.

    `bytes`: of the batches with these.
    """

    partition: int
    log_start: int
    next_offset: int
    bytes: int = 0


class TopicDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic; with the offsets of its partitions where they were asked for."""

    name: str
    id: int
    uuid: str
    pool: int
    owner: str
    created_ms: int
    partitions: int
    offsets: tuple[PartitionDocument, ...] = ()
    config: dict[str, str] = {}  # What is not set has its default.


class TopicsDocument(msgspec.Struct, frozen=True):
    """The topics of the keys' owner, by name."""

    topics: tuple[TopicDocument, ...]


class RecordDocument(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A record. Key and value are text, or bytes in base64, or not there (null).

    `offset` is its place in the log, and nothing in what is appended; so is the time that is left
    out, for which the node's is taken.
    """

    value: str | None = None
    value_base64: str | None = None
    key: str | None = None
    key_base64: str | None = None
    headers: dict[str, str | None] = {}
    timestamp_ms: int | None = None
    offset: int | None = None


class ProducerDocument(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A producer by whose numbers a batch that is sent again is known.

    `sequence`: of the first record; 0 first of all, then one more for each record before it in
    the partition.
    """

    id: int
    epoch: int = 0
    sequence: int = 0


class AppendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Records that are to be one batch. `expect_offset`: only if the first one gets this offset.

    `job`: in whose name, under its `token`; where that job has a fence, not with a lower one.
    """

    records: list[RecordDocument]
    producer: ProducerDocument | None = None
    expect_offset: int | None = None
    job: str = ""
    token: int | None = None


class AppendedDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """Appended and durable; `copies` are named where they are fewer than the pool keeps."""

    base_offset: int
    next_offset: int  # Behind its last record.
    copies: int | None = None


class FetchedDocument(msgspec.Struct, frozen=True):
    """Records, and where to go on."""

    records: list[RecordDocument]
    next_offset: int
    high_water_mark: int
    log_start: int


class TrimRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Records below this offset are not read any more."""

    before_offset: int


class OffsetDocument(msgspec.Struct, frozen=True):
    """The first record of the time or later; else where the log ends."""

    partition: int
    timestamp_ms: int
    offset: int


class HoldDocument(msgspec.Struct, frozen=True):
    """What keeps the first records of a log: `by` for programs, `reason` for people."""

    by: str
    reason: str


class HeldPartitionDocument(PartitionDocument, frozen=True, kw_only=True):
    """A partition, and what keeps its first records."""

    holds: tuple[HoldDocument, ...]


class WhyDocument(msgspec.Struct, frozen=True):
    """Why the logs of a topic begin where they do."""

    topic: str
    partitions: tuple[HeldPartitionDocument, ...]


class FenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From now on refuse appends in the job's name with a lower token, or with none."""

    job: str
    token: int


class FenceDocument(msgspec.Struct, frozen=True):
    """The job's token at the partition; a higher one than was asked for is another owner's."""

    partition: int
    job: str
    token: int


class FencesDocument(msgspec.Struct, frozen=True):
    """The fences of a partition, by job."""

    fences: tuple[FenceDocument, ...]


class PinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keep all records from `offset` on; an `id` is used once by its `owner`."""

    owner: str
    id: str
    offset: int


class PinDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records from `offset` on are kept until the pin is released."""

    partition: int
    owner: str
    id: str
    offset: int
    made_ms: int | None = None


class PinsDocument(msgspec.Struct, frozen=True):
    """The pins of a partition, by owner and id."""

    pins: tuple[PinDocument, ...]


def as_text(value: bytes | None) -> tuple[str | None, str | None]:
    """A key or value as text, or else in base64."""
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(value).decode()


def as_bytes(text: str | None, base64: str | None) -> bytes | None:
    """The inverse of `as_text`. Raises ValueError."""
    if base64 is None:
        return None if text is None else text.encode()
    if text is not None:
        raise ValueError("it is given both as text and in base64")
    return b64decode(base64, validate=True)
