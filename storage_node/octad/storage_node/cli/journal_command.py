"""`octad journal dump|verify DIR`: read a node's journal as it lies on disk, without its index.

`dump` prints each record's header; `verify` reads and checks every byte and prints what is wrong.
Neither changes anything, and both work on a copy, and on the journal of a node that is running.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from octad.client.runtime.command import CommandError

if TYPE_CHECKING:
    from octad.storage_node.journal.journal_recovery import JournalRecovery
    from octad.storage_node.journal.record_format import Location, Record


class RecordLine(msgspec.Struct):
    """A record as `dump` prints it."""

    segment: int
    offset: int
    length: int
    kind: str
    shard: str
    epoch: int
    seq: int
    commit: int
    request_id: str
    metadata_bytes: int
    data_bytes: int


class VerifyResult(msgspec.Struct):
    """The result of `verify`. `damage` is empty when every record is intact."""

    records: int
    bytes: int
    end_segment: int
    end_offset: int
    damage: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["dump", "verify"])
    parser.add_argument("directory", type=Path, metavar="DIR", help="a node's data directory")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    from octad.storage_node.journal.journal_errors import JournalDamage
    from octad.storage_node.node.node_failures import is_disk_error, said_by_disk

    read = _dump if arguments.action == "dump" else _verify
    try:
        return read(_recovery(arguments.directory), arguments.json)
    except JournalDamage as error:  # Met before the first record.
        fix = error.fix or "octad doctor tells whether other nodes have copies of what is there"
        raise CommandError(error.what, fix) from error
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise CommandError(
            f"the disk under {arguments.directory} fails ({said_by_disk(error)})",
            "octad doctor tells whether other nodes have copies of what is on it",
        ) from error


def _recovery(directory: Path) -> JournalRecovery:
    from octad.storage_node.journal.disk import Disk
    from octad.storage_node.journal.journal_recovery import JournalRecovery
    from octad.storage_node.journal.record_format import Position

    journal = directory / "journal"
    if not journal.is_dir():
        raise CommandError(
            f"{journal} is not there", "name a node's data directory (octad-data/n1)"
        )
    return JournalRecovery(Disk(), journal, None, Position(0))


def _dump(recovery: JournalRecovery, as_json: bool) -> int:
    from octad.storage_node.journal.journal_errors import JournalDamage

    try:
        for location, record in recovery.records():
            line = _line(location, record)
            if as_json:
                print(msgspec.json.encode(line).decode())
            else:
                print(
                    f"{line.segment}:{line.offset} {line.kind} shard {line.shard} "
                    f"epoch {line.epoch} seq {line.seq} commit {line.commit} "
                    f"request {line.request_id} metadata {line.metadata_bytes} B "
                    f"data {line.data_bytes} B"
                )
    except JournalDamage as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _line(location: Location, record: Record) -> RecordLine:
    from octad.sharding.ids import shard_name

    return RecordLine(
        segment=location.segment,
        offset=location.offset,
        length=location.length,
        kind=record.kind.name,
        shard=shard_name(record.shard),
        epoch=record.epoch,
        seq=record.seq,
        commit=record.commit,
        request_id=record.request_id.hex(),
        metadata_bytes=len(record.metadata),
        data_bytes=len(record.data),
    )


def _verify(recovery: JournalRecovery, as_json: bool) -> int:
    from octad.storage_node.journal.journal_errors import JournalDamage
    from octad.storage_node.journal.record_format import offset_of, segment_of

    result = VerifyResult(0, 0, 0, 0, [])
    try:
        for location, _record in recovery.records():
            result.records += 1
            result.bytes += location.length
    except JournalDamage as error:
        result.damage.append(str(error))
    result.end_segment, result.end_offset = segment_of(recovery.end), offset_of(recovery.end)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print("\n".join(_told(result)))
    return 1 if result.damage else 0


def _told(result: VerifyResult) -> Iterator[str]:
    yield from result.damage
    read = f"{result.records} records, {result.bytes} bytes"
    place = f"segment {result.end_segment}, offset {result.end_offset}"
    if result.damage:
        yield f"{read} are intact up to {place}; let a member repair the rest"
    else:
        yield f"{read}, all intact; the journal ends in {place}"
