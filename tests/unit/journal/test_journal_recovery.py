"""After a crash: a torn tail is dropped silently, other damage reported, nothing stale accepted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.watched_disk import WatchedDisk
from tests.unit.journal.journal_site import (
    BEGINNING,
    IDENTITY,
    copy_as_crashed,
    data_of,
    replayed,
    running_journal,
)
from xxhash import xxh3_64_intdigest

from octad.sharding.limits import MIB
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import (
    CorruptRecord,
    SegmentMissing,
    UnreadableRecord,
    WrittenByNewer,
)
from octad.storage_node.journal.record_format import (
    RECORDS_OFFSET,
    Location,
    RecordKind,
    checksum_seed,
    end_of,
)

SEGMENT_1 = "0000000001.segment"


async def crashed(tmp_path: Path, batches: list[list[bytes]]) -> tuple[Path, list[list[Location]]]:
    """A journal as it lies on disk right after its last batch became durable."""
    locations: list[list[Location]] = []
    async with running_journal(tmp_path / "running") as site:
        for batch in batches:
            locations.append(await site.batch(batch))
        copy_as_crashed(tmp_path / "running", tmp_path / "crashed", end_of(locations[-1][-1]))
    return tmp_path / "crashed", locations


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def flip(path: Path, offset: int) -> None:
    overwrite(path, offset, bytes([path.read_bytes()[offset] ^ 0x10]))


Tear = Callable[[Path, int, int], None]


def cut_off(path: Path, offset: int, _end: int) -> None:
    os.truncate(path, offset)


def never_written(path: Path, offset: int, end: int) -> None:
    overwrite(path, offset, bytes(end - offset))


def garbage(path: Path, offset: int, end: int) -> None:
    overwrite(path, offset, b"\xa5" * (end - offset))


@pytest.mark.parametrize("tear", [cut_off, never_written, garbage])
async def test_a_last_batch_torn_at_any_byte_is_dropped_and_nothing_else(
    tmp_path: Path, tear: Tear
) -> None:
    torn = [b"first", b"", b"third"]
    directory, locations = await crashed(tmp_path, [[b"kept"], torn])
    path = directory / SEGMENT_1
    whole = path.read_bytes()
    end = locations[1][-1].offset + locations[1][-1].length
    for offset in range(locations[1][0].offset, end):
        path.write_bytes(whole)
        tear(path, offset, end)
        survivors = [
            b for b, at in zip(torn, locations[1], strict=True) if at.offset + at.length <= offset
        ]
        assert data_of(replayed(directory)) == [b"kept", *survivors]


@pytest.mark.parametrize("kind", [kind for kind in RecordKind if kind < RecordKind.SYNCED_MARK])
async def test_a_flipped_bit_below_the_synced_point_is_reported_with_file_and_offset(
    tmp_path: Path, kind: RecordKind
) -> None:
    async with running_journal(tmp_path / "running") as site:
        await site.batch([b"before"])
        victim = site.append(b"victim", kind)
        await site.until_durable(victim.lsn)
        behind = await site.batch([b"behind"])
        copy_as_crashed(tmp_path / "running", tmp_path / "crashed", end_of(behind[-1]))
    path = tmp_path / "crashed" / SEGMENT_1
    whole = path.read_bytes()
    for offset in range(victim.location.offset, victim.location.offset + victim.location.length):
        path.write_bytes(whole)
        flip(path, offset)
        replay = Journal.open(path.parent, IDENTITY).replay(BEGINNING)
        assert bytes(next(replay)[1].data) == b"before"
        with pytest.raises(CorruptRecord) as caught:
            next(replay)
        assert (caught.value.file, caught.value.offset) == (path, victim.location.offset)


async def test_a_clean_stop_proves_the_last_batch(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        (last,) = await site.batch([b"last"])
    flip(tmp_path / SEGMENT_1, last.offset + 90)
    with pytest.raises(CorruptRecord, match=f"offset {last.offset}"):
        replayed(tmp_path)


async def test_damage_in_a_full_segment_is_never_a_torn_tail(tmp_path: Path) -> None:
    big = bytes(8 * MIB)
    directory, locations = await crashed(tmp_path, [[big], [big] * 6, [big]])
    assert locations[2][0].segment == 2
    last = locations[1][-1]
    flip(directory / SEGMENT_1, last.offset + 5000)
    with pytest.raises(CorruptRecord) as caught:
        replayed(directory)
    assert (caught.value.file.name, caught.value.offset) == (SEGMENT_1, last.offset)


async def test_a_torn_first_batch_of_a_segment_leaves_the_segment_before_whole(
    tmp_path: Path,
) -> None:
    big = bytes(8 * MIB)
    directory, locations = await crashed(tmp_path, [[big] * 7, [big, b"whole but torn off"]])
    flip(directory / "0000000002.segment", locations[1][0].offset + 100)
    assert len(replayed(directory)) == 7
    flip(directory / SEGMENT_1, locations[0][-1].offset + 100)
    with pytest.raises(CorruptRecord, match=SEGMENT_1):
        replayed(directory)


async def test_a_damaged_first_record_of_the_last_segment_is_reported(tmp_path: Path) -> None:
    big = bytes(8 * MIB)
    directory, locations = await crashed(tmp_path, [[big] * 7, [b"first" * 1000], [b"second"]])
    assert locations[1][0].segment == 1
    path = directory / SEGMENT_1
    flip(path, RECORDS_OFFSET + 8)
    with pytest.raises(CorruptRecord) as caught:
        replayed(directory)
    assert (caught.value.file, caught.value.offset) == (path, RECORDS_OFFSET)


async def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    for number in range(4):
        async with running_journal(directory) as site:
            (at,) = await site.batch([b"%d" % number])
    last = f"{at.segment:010d}.segment"  # Only the index knows that there was such a one.
    for name in [name for name in sorted(Disk().names(directory)) if name <= last]:
        shutil.copytree(directory, tmp_path / "copy")
        (tmp_path / "copy" / name).unlink()
        try:
            with pytest.raises(SegmentMissing, match=name):
                replayed(tmp_path / "copy", end_of(at) if name in last else BEGINNING)
        finally:
            shutil.rmtree(tmp_path / "copy")


async def test_a_journal_shorter_than_the_index_knows_is_reported(tmp_path: Path) -> None:
    directory, locations = await crashed(tmp_path, [[b"one"], [b"two"]])
    os.truncate(directory / SEGMENT_1, locations[1][0].offset + 10)
    with pytest.raises(CorruptRecord, match="the index refers to"):
        replayed(directory, end_of(locations[1][0]))


async def test_what_was_torn_off_never_comes_back(tmp_path: Path) -> None:
    directory, locations = await crashed(tmp_path, [[b"kept"], [b"torn", b"whole but torn off"]])
    flip(directory / SEGMENT_1, locations[1][0].offset + 89)
    for number in range(2):
        async with running_journal(directory) as site:
            await site.batch([b"new%d" % number])
    assert data_of(replayed(directory)) == [b"kept", b"new0", b"new1"]


async def test_stale_records_of_another_use_of_the_file_are_not_accepted(tmp_path: Path) -> None:
    directory, locations = await crashed(tmp_path, [[b"stale"] * 10])
    stale = (directory / SEGMENT_1).read_bytes()
    async with running_journal(tmp_path / "other") as site:
        await site.batch([b"first life"])
    async with running_journal(tmp_path / "other") as site:
        (fresh,) = await site.batch([b"stale"])
        assert (fresh.offset, fresh.length) == (locations[0][0].offset, locations[0][0].length)
        path = tmp_path / "other" / f"{fresh.segment:010d}.segment"
        copy_as_crashed(tmp_path / "other", tmp_path / "recycled", end_of(fresh))
    overwrite(
        tmp_path / "recycled" / path.name,
        fresh.offset + fresh.length,
        stale[fresh.offset + fresh.length :],
    )
    assert data_of(replayed(tmp_path / "recycled")) == [b"first life", b"stale"]


async def test_an_object_that_holds_a_journal_is_no_journal(tmp_path: Path) -> None:
    """The image of a record, marks and all, inside a record's data proves nothing."""
    directory, _ = await crashed(tmp_path, [[b"a"], [b"b"]])
    image = (directory / SEGMENT_1).read_bytes()[RECORDS_OFFSET:]
    async with running_journal(tmp_path / "other") as site:
        kept = await site.batch([b"kept"])
        last = await site.batch([image, image])
        copy_as_crashed(tmp_path / "other", tmp_path / "torn", end_of(last[-1]))
    flip(tmp_path / "torn" / SEGMENT_1, last[0].offset + 20)
    assert data_of(replayed(tmp_path / "torn")) == [b"kept"]
    assert kept[0].offset == RECORDS_OFFSET


async def test_a_disk_that_cannot_read_the_tail_does_not_lose_it(tmp_path: Path) -> None:
    directory, locations = await crashed(tmp_path, [[b"one"], [b"two"]])
    disk = WatchedDisk()
    start = end_of(locations[0][0])
    list(Journal.open(directory, IDENTITY, disk).replay(start))
    for failing in range(1, disk.count("read") + 1):
        again = WatchedDisk()
        again.fail_at("read", failing, errno.EIO)
        with pytest.raises(UnreadableRecord):
            list(Journal.open(directory, IDENTITY, again).replay(start))


async def test_a_torn_tail_gives_its_space_back(tmp_path: Path) -> None:
    directory, locations = await crashed(tmp_path, [[b"kept"], [b"torn"]])
    os.truncate(directory / SEGMENT_1, locations[1][0].offset + 20)
    async with running_journal(directory):
        assert (directory / SEGMENT_1).stat().st_size == locations[1][0].offset


async def test_a_replay_from_any_record_gives_that_record_and_all_behind_it(tmp_path: Path) -> None:
    batches = [[b"%d.%d" % (batch, i) for i in range(3)] for batch in range(4)]
    directory, locations = await crashed(tmp_path, batches)
    flat = [each for batch in batches for each in batch]
    ends = [BEGINNING] + [end_of(at) for batch in locations for at in batch]
    for skipped, start in enumerate(ends):
        assert data_of(replayed(directory, start)) == flat[skipped:]


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.unit.journal.journal_site import running_journal

async def main():
    async with running_journal(Path(sys.argv[1])) as site:
        number = 0
        while True:
            batch = [b"%d " % n + b"x" * (n % 5000) for n in range(number, number + 20)]
            number += 20
            await site.batch(batch)
            print(number, flush=True)

asyncio.run(main())
"""


def test_a_killed_writer_loses_nothing_that_it_was_told_is_durable(tmp_path: Path) -> None:
    for round_ in range(3):
        directory = tmp_path / str(round_)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        with writer.stdout as told:
            acknowledged = 0
            for line in told:
                acknowledged = int(line)
                if acknowledged >= 200 * (round_ + 1):
                    writer.send_signal(signal.SIGKILL)
        writer.wait()
        numbers = [int(data.split(b" ")[0]) for data in data_of(replayed(directory))]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= acknowledged


async def test_replay_reads_records_larger_than_its_pieces(tmp_path: Path) -> None:
    batches = [[bytes([i]) * (i * MIB + i)] for i in range(1, 8)]
    directory, _ = await crashed(tmp_path, batches)
    assert data_of(replayed(directory)) == [batch[0] for batch in batches]


async def test_the_end_of_a_replay_is_where_position_goes_on(tmp_path: Path) -> None:
    directory, locations = await crashed(tmp_path, [[b"one"]])
    async with running_journal(directory) as site:
        assert site.journal.position() == end_of(locations[0][0])
        assert site.journal.durable_to == end_of(locations[0][0])


@pytest.mark.parametrize(("at", "said"), [(12, "format version 2"), (13, "its kind 99")])
async def test_what_a_newer_octad_wrote_is_neither_torn_nor_for_others_to_repair(
    tmp_path: Path, at: int, said: str
) -> None:
    directory, locations = await crashed(tmp_path, [[b"kept"], [b"newer"]])
    path, newer = directory / SEGMENT_1, locations[-1][-1]
    record = bytearray(path.read_bytes()[newer.offset : newer.offset + newer.length])
    record[at] = 2 if at == 12 else 99
    checksum = xxh3_64_intdigest(bytes(record[8:]), checksum_seed(newer.segment, 1))
    overwrite(path, newer.offset, checksum.to_bytes(8, "little") + record[8:])
    with pytest.raises(WrittenByNewer, match=said) as caught:
        replayed(directory)
    assert caught.value.fix == "install the octad that wrote it, or a newer one"
    assert not caught.value.others_may_fill
