"""`octad consume TOPIC`: print records, a line each: the value, or a JSON document with `--json`.

It ends where the log ended when it began, or, with `--follow`, at Ctrl-C.

Exit codes: 0 done, 1 refused, or no node answers, 2 not understood, or no key is known.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from octad.client.cli.log.log_connection import add_log_options, connected

if TYPE_CHECKING:
    from octad.client.log.log_documents import PartitionDocument, RecordDocument
    from octad.client.log.topics_client import TopicsClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("--partition", metavar="N", type=int, help="(default: all, one by one)")
    parser.add_argument(
        "--from",
        dest="begin",
        metavar="start|end|OFFSET|TIME",
        default="start",
        type=_begin,
        help="where to begin (default: start); a time as 2026-11-30T12:00:00Z",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is appended")
    parser.add_argument("--json", action="store_true", help="print one JSON document a record")
    add_log_options(parser)


def _begin(text: str) -> str | int | datetime:
    if text in ("start", "end"):
        return text
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone()  # Without a zone: this machine's.
    except (ValueError, OverflowError, OSError) as error:
        said = f"{text!r} is neither start, end, an offset nor a time"
        raise argparse.ArgumentTypeError(said) from error


def run(arguments: argparse.Namespace) -> int:
    from octad.client.http.blocking import drive

    with connected(arguments) as client:
        topic = drive(client.describe(arguments.topic))
        offsets = {
            each.partition: _first(client, arguments, each)
            for each in topic.offsets
            if arguments.partition in (None, each.partition)
        }
        if arguments.partition is not None and not offsets:
            drive(client.fetch(arguments.topic, arguments.partition, 0))  # It says what is there.
        ends = {each.partition: each.next_offset for each in topic.offsets}
        try:
            for partition in offsets:
                while offsets[partition] < ends[partition]:
                    _print_some(client, arguments, offsets, partition, 0)
            while arguments.follow:
                _follow(client, arguments, offsets)
        except KeyboardInterrupt:
            pass
    return 0


def _first(client: TopicsClient, arguments: argparse.Namespace, there: PartitionDocument) -> int:
    from octad.client.http.blocking import drive

    begin = arguments.begin
    if isinstance(begin, datetime):
        time_ms = max(0, int(begin.timestamp() * 1000))
        return drive(client.offset_of(arguments.topic, there.partition, time_ms))
    if isinstance(begin, int):
        return begin
    return there.next_offset if begin == "end" else there.log_start


def _follow(client: TopicsClient, arguments: argparse.Namespace, offsets: dict[int, int]) -> None:
    """Wait at one partition for a while where none has anything; long where there is one only."""
    from octad.client.log.topics_client import WAIT_MS_MAX

    wait_ms = WAIT_MS_MAX // len(offsets)
    for partition in offsets:
        _print_some(client, arguments, offsets, partition, wait_ms)


def _print_some(
    client: TopicsClient,
    arguments: argparse.Namespace,
    offsets: dict[int, int],
    partition: int,
    wait_ms: int,
) -> None:
    """And go on behind them."""
    from octad.client.http.blocking import drive

    offset = offsets[partition]
    fetched = drive(client.fetch(arguments.topic, partition, offset, wait_ms=wait_ms, seen=offset))
    out = sys.stdout.buffer
    for record in fetched.records:
        out.write(_line(record, as_json=arguments.json) + b"\n")
    out.flush()
    offsets[partition] = fetched.next_offset


def _line(record: RecordDocument, *, as_json: bool) -> bytes:
    import msgspec

    from octad.client.log.log_documents import as_bytes

    if as_json:
        return msgspec.json.encode(record)
    return as_bytes(record.value, record.value_base64) or b""
