"""A lost or damaged index is made anew from the journal; a bad data directory is told apart."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
from tests.unit.engine.engine_site import EngineSite
from tests.unit.journal.journal_site import IDENTITY

from octad.client.runtime.command import CommandError
from octad.sharding.limits import KIB
from octad.storage_node.cli import index_command
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamaged
from octad.storage_node.journal.data_directory import DataDirectory
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import CorruptRecord, SegmentMissing

SEGMENT_BYTES = 256 * KIB


def opened(directory: Path) -> EngineSite:
    return EngineSite(
        directory / "journal", Disk(), CountedIndex(directory / "index"), SEGMENT_BYTES
    )


async def closed(site: EngineSite) -> None:
    await site.journal.close()
    site.index.close()


async def written(directory: Path) -> dict[bytes, bytes]:
    """A stopped node's directory with some objects, several segments and one compaction."""
    made = DataDirectory.open(directory, IDENTITY.cluster)
    made.initialize(IDENTITY.cluster, IDENTITY.node, IDENTITY.incarnation)
    made.close()
    site = opened(directory)
    for number in range(400):
        site.put(b"%d" % (number % 50), bytes([number % 256]) * 3000)
        if number % 20 == 0:
            await site.settled()
    site.delete(b"7")
    await site.settled()
    assert await site.compacted()
    held = {b"%d" % key: site.get(b"%d" % key) for key in range(50)}
    await closed(site)
    return {key: value for key, value in held.items() if value is not None}


def rebuild(directory: Path) -> int:
    parser = argparse.ArgumentParser()
    index_command.add_arguments(parser)
    return index_command.run(parser.parse_args(["rebuild", str(directory)]))


async def test_an_index_that_was_lost_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = await written(tmp_path)
    assert len(held) == 49
    shutil.rmtree(tmp_path / "index")
    assert rebuild(tmp_path) == 0
    assert "1 shards read" in capsys.readouterr().out
    site = opened(tmp_path)
    assert {key: site.get(key) for key in held} == held
    assert site.get(b"7") is None
    await closed(site)


async def test_an_index_that_cannot_be_opened_says_how_to_make_it_anew(tmp_path: Path) -> None:
    """As in a directory that was copied while its node was running."""
    held = await written(tmp_path)
    for path in (tmp_path / "index").glob("*.sst"):
        path.unlink()
    with pytest.raises(IndexDamaged, match=f"octad index rebuild {tmp_path}"):
        CountedIndex(tmp_path / "index")
    assert rebuild(tmp_path) == 0
    assert (tmp_path / "index.replaced").is_dir()
    site = opened(tmp_path)
    assert {key: site.get(key) for key in held} == held
    await closed(site)


async def test_a_missing_segment_stops_start_and_rebuild_alike(tmp_path: Path) -> None:
    await written(tmp_path)
    segments = sorted((tmp_path / "journal").glob("*.segment"))
    segments[0].unlink()
    with pytest.raises(SegmentMissing, match=f"{segments[0].name} is missing"):
        opened(tmp_path)
    with pytest.raises(CommandError, match=r"\.segment is missing"):
        rebuild(tmp_path)
    assert (tmp_path / "index").is_dir()


async def test_a_truncated_segment_is_named_by_rebuild(tmp_path: Path) -> None:
    await written(tmp_path)
    first = min((tmp_path / "journal").glob("*.segment"))
    with first.open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(CommandError, match=first.name):
        rebuild(tmp_path)
    with pytest.raises(CorruptRecord, match=first.name):
        opened(tmp_path)


async def test_a_directory_in_use_is_not_rebuilt(tmp_path: Path) -> None:
    await written(tmp_path)
    holder = DataDirectory.open(tmp_path, IDENTITY.cluster)
    with pytest.raises(CommandError, match="is in use by process"):
        rebuild(tmp_path)
    holder.close()


def test_what_is_no_data_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is not a node's data directory"):
        rebuild(tmp_path)
