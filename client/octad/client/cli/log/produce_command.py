"""`octad produce TOPIC`: append each line of standard input as a record, in order and once.

Lines with a key (`--key-separator`) go to the partition of the key, others to one after the other,
some at a time; or all to `--partition`. The last line says how many were appended.

Exit codes: 0 all are appended, 1 refused, or no node answers, 2 not understood, or no key is known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from octad.client.cli.log.log_connection import add_log_options, connected

if TYPE_CHECKING:
    from octad.client.log.log_documents import RecordDocument

_LINES_MAX, _BYTES_MAX = 500, 128 * 1024  # Of one batch.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("--partition", metavar="N", type=int, help="(default: by key, or in turn)")
    parser.add_argument(
        "--key-separator", metavar="TEXT", help="what stands between a line's key and its value"
    )
    parser.add_argument("--job", metavar="JOB", default="", help="append in the name of this job")
    parser.add_argument("--token", metavar="N", type=int, help="the job's token (needs --job)")
    add_log_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.http.blocking import drive

    with connected(arguments) as client:
        partitions = drive(client.describe(arguments.topic)).partitions
        producer = drive(client.producer(arguments.topic, arguments.job, arguments.token))
        count = 0
        for turn, lines in enumerate(_batches()):
            by_partition: dict[int, list[RecordDocument]] = {}
            for line in lines:
                record, hashed = _record(line, arguments.key_separator)
                number = turn if hashed is None else hashed
                place = number % partitions if arguments.partition is None else arguments.partition
                by_partition.setdefault(place, []).append(record)
            for partition, records in by_partition.items():
                drive(producer.append(partition, records))
                count += len(records)
    print(f"{count} record{'' if count == 1 else 's'} appended to {arguments.topic}")
    return 0


def _batches() -> Iterator[list[bytes]]:
    """A person's lines one by one."""
    lines: list[bytes] = []
    size = 0
    at_once = 1 if sys.stdin.isatty() else _LINES_MAX
    for line in sys.stdin.buffer:
        lines.append(line.rstrip(b"\r\n"))
        size += len(line)
        if len(lines) >= at_once or size >= _BYTES_MAX:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _record(line: bytes, separator: str | None) -> tuple[RecordDocument, int | None]:
    """The record, and its key's hash if it has one."""
    from xxhash import xxh3_64_intdigest

    from octad.client.log.log_documents import RecordDocument, as_text

    key, found, value = line.partition(separator.encode()) if separator else (b"", b"", line)
    if not found:
        return RecordDocument(*as_text(line)), None
    return RecordDocument(*as_text(value), *as_text(key)), xxh3_64_intdigest(key)
