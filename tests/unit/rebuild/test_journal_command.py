"""`octad journal` tells what lies on disk, and finds damage, without an index."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from tests.unit.journal.journal_site import running_journal

from octad.client.runtime.command import CommandError
from octad.storage_node.cli import journal_command


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    journal_command.add_arguments(parser)
    return journal_command.run(parser.parse_args(words))


async def written(directory: Path) -> int:
    """A node's data directory with three records; the offset of the second."""
    async with running_journal(directory / "journal") as site:
        locations = await site.batch([b"one", b"two", b"three"])
    return locations[1].offset


async def test_dump_prints_every_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await written(tmp_path)
    assert run("dump", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("1:4096 PUT_OBJECT shard 0/7 epoch 1 seq 1 commit 0 request 0001")
    assert run("dump", str(tmp_path), "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["data_bytes"] for record in records] == [3, 3, 5]


async def test_verify_finds_a_whole_journal_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await written(tmp_path)
    assert run("verify", str(tmp_path), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["records"], result["damage"]) == (3, [])
    assert run("verify", str(tmp_path)) == 0
    assert "3 records" in capsys.readouterr().out


async def test_verify_names_file_and_offset_of_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offset = await written(tmp_path)
    path = tmp_path / "journal" / "0000000001.segment"
    content = bytearray(path.read_bytes())
    content[offset + 20] ^= 1
    path.write_bytes(content)
    for words in (["verify", str(tmp_path)], ["verify", str(tmp_path), "--json"]):
        assert run(*words) == 1
        assert f"{path} is damaged at offset {offset}" in capsys.readouterr().out
    assert run("dump", str(tmp_path)) == 1
    assert f"{path} is damaged at offset {offset}" in capsys.readouterr().err


def test_a_directory_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="journal is not there; name a node's data directory"):
        run("verify", str(tmp_path))


def test_a_note_that_is_damaged_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "retired.json").write_text("{")
    with pytest.raises(CommandError, match=r"retired.json is damaged .*; octad doctor tells"):
        run("verify", str(tmp_path))
