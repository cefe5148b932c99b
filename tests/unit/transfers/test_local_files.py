"""Files of this machine: what is there is found, what is written is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from octad.client.cli.transfers.etags import etag_of
from octad.client.cli.transfers.local_files import items_below, write_whole

MIB = 1024 * 1024


def test_all_files_below_are_found_by_name_also_through_links(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "d" / "e").mkdir(parents=True)
    for name in ("b", "a", "d/e/c"):
        (folder / name).write_bytes(b"12")
    (tmp_path / "elsewhere").write_bytes(b"123")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "mine.part").write_bytes(b"")
    (folder / "unfinished.0123abcd.part").write_bytes(b"")
    items, failures = items_below(folder)
    found = [(item.name, item.size) for item in items]
    assert found == [("a", 2), ("b", 2), ("d/e/c", 2), ("link", 3), ("mine.part", 0)]
    assert failures == []


def test_what_cannot_be_a_file_is_named_and_the_rest_is_found(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good").write_bytes(b"")
    items, failures = items_below(tmp_path)
    assert [item.name for item in items] == ["good"]
    reasons = {Path(failure.name).name: failure.reason for failure in failures}
    assert reasons == {
        "dangling": "No such file or directory",
        "pipe": "it is no regular file",
        "loop": "it is a link to a folder that it is in",
    }


def test_a_file_is_written_whole_with_its_time(tmp_path: Path) -> None:
    write_whole(str(tmp_path / "f"), b"all of it", 1234.5)
    assert (tmp_path / "f").read_bytes() == b"all of it"
    assert (tmp_path / "f").stat().st_mtime == 1234.5
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(str(tmp_path / "f"), b"after", 0)
    assert (tmp_path / "f").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_the_etag_of_a_file_is_that_of_what_the_sdk_puts(tmp_path: Path) -> None:
    file = tmp_path / "f"
    data = os.urandom(1000)
    file.write_bytes(data)
    assert etag_of(file, 1000) == hashlib.md5(data).hexdigest()
    large = os.urandom(17 * MIB)
    file.write_bytes(large)
    digests = [hashlib.md5(large[at : at + 8 * MIB]).digest() for at in range(0, 17 * MIB, 8 * MIB)]
    assert etag_of(file, 17 * MIB) == f"{hashlib.md5(b''.join(digests)).hexdigest()}-3"
