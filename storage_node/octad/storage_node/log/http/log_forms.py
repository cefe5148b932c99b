"""What a request to the log says, and records as documents: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, TypeVar

import msgspec

from octad.client.log.log_documents import (
    END,
    START,
    AppendRequest,
    RecordDocument,
    TopicRequest,
    as_bytes,
    as_text,
)
from octad.storage_node.index.partition_rows import NO_PRODUCER, NO_TOKEN
from octad.storage_node.log.http.log_refusals import Refused
from octad.storage_node.log.partition_reader import FETCH_WAIT_S_MAX
from octad.storage_node.log.record_batch import BATCH_BYTES_MAX, batch_of, split_batches
from octad.storage_node.log.records import Record, decode_records, encode_records
from octad.storage_node.log.topic_log import FETCH_BYTES_MAX

PARTITIONS_MAX: Final = 10_000
NAME_MAX: Final = 249  # Kafka's.
NAME_BYTES_MAX: Final = 255  # Of a job, a pin, and the owner of a pin.
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_INT64_MAX: Final = (1 << 63) - 1
_INT32_MAX: Final = (1 << 31) - 1
_INT16_MAX: Final = (1 << 15) - 1
Document = TypeVar("Document")


class Fetching(msgspec.Struct, frozen=True):
    """Which records are asked for; `offset` may be START or END, or not be there: by `time_ms`."""

    offset: int | str | None
    time_ms: int
    bytes_max: int
    wait_s: float
    seen: int


class Job(NamedTuple):
    """In whose name something is appended: "" for nobody's."""

    name: str = ""
    token: int = NO_TOKEN


def bad_request(reason: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "bad-request", reason)


def document_in(body: bytes, kind: type[Document]) -> Document:
    """Raises Refused."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not what this takes: {error}") from error


def check_topic(name: str, asked: TopicRequest) -> None:
    """Raises Refused where no topic may be called or made so."""
    if len(name) > NAME_MAX or name in (".", "..") or _NAME.fullmatch(name) is None:
        said = f"a topic's name is up to {NAME_MAX} letters, digits, dots, dashes and underscores"
        raise Refused(HTTPStatus.BAD_REQUEST, "bad-name", said)
    if not 1 <= asked.partitions <= PARTITIONS_MAX:
        said = f"a topic has 1 to {PARTITIONS_MAX} partitions, not {asked.partitions}"
        raise Refused(HTTPStatus.BAD_REQUEST, "bad-partitions", said)


def partition_in(text: str, partitions: int) -> int:
    """The number of a partition that is there. Raises Refused."""
    number = int(text) if _NUMBER.fullmatch(text) else partitions
    if number >= partitions:
        said = f"there is no partition {text}: there are {partitions}, from 0 on"
        raise Refused(HTTPStatus.NOT_FOUND, "no-such-partition", said)
    return number


def number_in(query: Mapping[str, str], name: str, default: int) -> int:
    """Raises Refused."""
    text = query.get(name)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None or int(text) > _INT64_MAX:
        raise bad_request(f"{name} is a number that is not negative, and not {text!r}")
    return int(text)


def job_in(query: Mapping[str, str]) -> Job:
    """Raises Refused."""
    token = number_in(query, "token", NO_TOKEN)
    return job_of(query.get("job", ""), None if token == NO_TOKEN else token)


def job_of(name: str, token: int | None) -> Job:
    """Raises Refused."""
    if name:
        _check_name("a job's name", name)
    if token is None:
        return Job(name)
    if not name:
        raise bad_request("a token is a job's: name it")
    if not 0 <= token <= _INT64_MAX:
        raise bad_request(f"there is no token {token}")
    return Job(name, token)


def check_pin(owner: str, id: str) -> None:
    """Raises Refused."""
    _check_name("a pin's owner", owner)
    _check_name("a pin's id", id)


def _check_name(what: str, name: str) -> None:
    size = len(name.encode(errors="replace"))
    if not 1 <= size <= NAME_BYTES_MAX or not name.isprintable():
        raise bad_request(f"{what} is 1 to {NAME_BYTES_MAX} bytes that can be printed")


def fetching_in(query: Mapping[str, str]) -> Fetching:
    """Raises Refused."""
    text, offset, time_ms = query.get("offset", START), None, 0
    if "timestamp_ms" not in query:
        offset = text if text in (START, END) else number_in(query, "offset", 0)
    elif "offset" in query:
        raise bad_request("it begins at an offset or at a time, and not at both")
    else:
        time_ms = number_in(query, "timestamp_ms", 0)
    wait_ms = number_in(query, "wait_ms", 0)
    if wait_ms > FETCH_WAIT_S_MAX * 1000:
        raise bad_request(f"wait_ms is at most {FETCH_WAIT_S_MAX * 1000:.0f}")
    bytes_max = number_in(query, "max_bytes", FETCH_BYTES_MAX)
    seen = number_in(query, "seen", 0)
    return Fetching(offset, time_ms, min(bytes_max, FETCH_BYTES_MAX), wait_ms / 1000, seen)


def batch_in(asked: AppendRequest, now_ms: int) -> bytes:
    """The records of a request as one batch. Raises Refused."""
    if not asked.records:
        raise bad_request("there are no records in it")
    try:
        records = [_record_of(each, now_ms) for each in asked.records]
    except (ValueError, UnicodeEncodeError) as error:
        raise bad_request(f"a record is not right: {error}") from error
    times = [record.timestamp for record in records]
    stamp = (NO_PRODUCER, -1, -1)
    if (producer := asked.producer) is not None:
        stamp = (producer.id, producer.epoch, producer.sequence)
        for number, most in zip(stamp, (_INT64_MAX, _INT16_MAX, _INT32_MAX), strict=True):
            if not 0 <= number <= most:
                raise bad_request(f"a producer has no number {number}")
    return batch_of(encode_records(records, times[0]), len(records), times[0], max(times), stamp)


def documents_from(data: memoryview, offset: int) -> Iterator[RecordDocument]:
    """The records from `offset` on, of whole batches. Raises BadBatch, as for an unknown codec."""
    for header, batch in split_batches(data):
        for at, record in decode_records(header, batch):
            if at >= offset:
                key, key_base64 = as_text(record.key)
                value, value_base64 = as_text(record.value)
                headers = {
                    name: None if each is None else each.decode(errors="replace")
                    for name, each in record.headers
                }
                yield RecordDocument(
                    value, value_base64, key, key_base64, headers, record.timestamp, at
                )


def _record_of(document: RecordDocument, now_ms: int) -> Record:
    if document.offset is not None:
        raise ValueError("its offset is given by the log")
    time_ms = now_ms if document.timestamp_ms is None else document.timestamp_ms
    if not 0 <= time_ms <= _INT64_MAX:
        raise ValueError(f"there is no time {time_ms}")
    headers = ((n, None if v is None else v.encode()) for n, v in document.headers.items())
    return Record(
        as_bytes(document.key, document.key_base64),
        as_bytes(document.value, document.value_base64),
        time_ms,
        tuple(headers),
    )


assert FETCH_BYTES_MAX <= BATCH_BYTES_MAX
