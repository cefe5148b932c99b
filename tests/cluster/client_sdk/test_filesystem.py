"""`octad://` through fsspec, blocking and awaited, on real nodes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from tests.harness.cluster_process import DevCluster

from octad import Bucket, Client, ClientClosed
from octad.client.adapters.fsspec_filesystem import OctadFileSystem

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
LARGE = os.urandom(20 * MIB + 7)


@pytest.fixture
def options(cluster: DevCluster) -> dict[str, Any]:
    return {
        "endpoint": cluster.endpoint(),
        "access_key": cluster.access_key,
        "secret_key": cluster.secret_key,
    }


@pytest.fixture
def bucket(options: dict[str, Any]) -> Iterator[Bucket]:
    with Client(**options) as client:
        yield client.create_bucket(f"files-{uuid4().hex[:12]}")


@pytest.fixture
def files(options: dict[str, Any]) -> OctadFileSystem:
    found = fsspec.filesystem("octad", skip_instance_cache=True, **options)
    assert isinstance(found, OctadFileSystem)  # The entry point names it.
    return found


@pytest.fixture
def tree(bucket: Bucket) -> str:
    """a, d/b, d/e/c, and a folder that is only marked."""
    for key in ("a", "d/b", "d/e/c", "marked/"):
        bucket.put(key, key.encode())
    return bucket.name


def test_a_tree_looks_like_one(files: OctadFileSystem, tree: str) -> None:
    assert files.ls(f"octad://{tree}", detail=False) == [
        f"{tree}/{n}" for n in ("a", "d", "marked")
    ]
    assert [e["type"] for e in files.ls(tree)] == ["file", "directory", "directory"]
    assert files.ls(f"{tree}/a", detail=False) == [f"{tree}/a"]
    assert files.ls(f"{tree}/marked") == []
    assert {"name": tree, "type": "directory", "size": 0} in files.ls("")
    assert files.find(tree) == [f"{tree}/{n}" for n in ("a", "d/b", "d/e/c")]
    assert files.find(tree, maxdepth=1) == [f"{tree}/a"]
    assert files.find(f"{tree}/a") == [f"{tree}/a"]
    assert files.glob(f"{tree}/d/*") == [f"{tree}/d/b", f"{tree}/d/e"]
    assert files.glob(f"{tree}/**/c") == [f"{tree}/d/e/c"]
    assert [root for root, _, _ in files.walk(f"{tree}/d")] == [f"{tree}/d", f"{tree}/d/e"]
    assert files.du(tree) == len("a" + "d/b" + "d/e/c")
    assert files.info(f"{tree}/d/b")["size"] == 3
    assert files.isdir(f"{tree}/d")
    assert files.isfile(f"{tree}/d/b")
    assert not files.isfile(f"{tree}/d")
    assert not files.exists(f"{tree}/d/nothing")
    assert files.modified(f"{tree}/a") == files.info(f"{tree}/a")["LastModified"]
    for wrong in (f"{tree}/nothing", "no-such-bucket/k", "no-such-bucket"):
        for look in (files.ls, files.info, files.cat_file, files.open):
            with pytest.raises(FileNotFoundError):
                look(wrong)


def test_bytes_come_and_go(files: OctadFileSystem, tree: str, tmp_path: Path) -> None:
    path = f"octad://{tree}/k"
    files.pipe_file(path, b"0123456789", content_type="text/x")
    assert files.info(path)["ContentType"] == "text/x"
    ranges = [(None, None), (2, 5), (-3, None), (2, -2), (5, 5), (20, 30), (8, 99)]
    expected = [b"0123456789"[slice(*each)] for each in ranges]
    assert [files.cat_file(path, *each) for each in ranges] == expected
    starts, ends = zip(*ranges, strict=True)
    assert files.cat_ranges([path] * len(ranges), list(starts), list(ends)) == expected
    missing = files.cat_ranges([f"{tree}/nothing", path], 0, 1)
    assert isinstance(missing[0], FileNotFoundError)
    assert missing[1] == b"0"
    assert files.cat([f"{tree}/a", f"{tree}/d/b"]) == {f"{tree}/a": b"a", f"{tree}/d/b": b"d/b"}
    with pytest.raises(FileExistsError):
        files.pipe_file(path, b"", mode="create")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "large").write_bytes(LARGE)
    files.put(str(tmp_path / "in"), f"{tree}/up", recursive=True)
    files.get(f"{tree}/up", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "large").read_bytes() == LARGE
    files.copy(f"{tree}/up/large", f"{tree}/copy")
    files.mv(path, f"{tree}/moved")
    assert not files.exists(path)
    files.rm(f"{tree}/d", recursive=True)
    assert files.find(tree) == [f"{tree}/{n}" for n in ("a", "copy", "moved", "up/large")]
    files.rm(tree, recursive=True)
    assert not files.exists(tree)
    files.mkdir(tree)
    with pytest.raises(FileExistsError):
        files.mkdir(tree)
    files.makedirs(tree, exist_ok=True)
    files.rmdir(tree)
    assert not files.exists(tree)


def test_files_are_read_and_written_in_pieces(files: OctadFileSystem, tree: str) -> None:
    path = f"{tree}/large"
    with files.open(path, "wb", content_type="text/x") as file:
        for start in range(0, len(LARGE), 700_001):
            file.write(LARGE[start : start + 700_001])
        assert not files.exists(path)
    assert files.info(path)["ETag"].endswith("-3")
    with files.open(path) as file:
        file.seek(5 * MIB)
        assert file.read(10) == LARGE[5 * MIB : 5 * MIB + 10]
        assert file.read() == LARGE[5 * MIB + 10 :]
    with files.open(f"{tree}/lines", "w") as file:
        file.write("one\ntwo\n")
    with files.open(f"{tree}/lines", "a") as file:
        file.write("three\n")
    assert files.cat_file(f"{tree}/lines") == b"one\ntwo\nthree\n"
    with pytest.raises(FileExistsError), files.open(path, "xb") as file:
        file.write(b"x")
    files.touch(f"{tree}/empty")
    assert files.cat_file(f"{tree}/empty") == b""


@pytest.mark.parametrize("size", [3, len(LARGE)])
def test_what_an_exception_leaves_is_not_stored(
    files: OctadFileSystem, bucket: Bucket, size: int
) -> None:
    with suppress(ZeroDivisionError), files.open(f"{bucket.name}/k", "wb") as file:
        file.write(LARGE[:size])
        raise ZeroDivisionError
    assert list(bucket.list()) == []
    with files.transaction:
        with files.open(f"{bucket.name}/k", "wb") as file:
            file.write(LARGE[:size])
        assert list(bucket.list()) == []
    assert bucket.head("k").size == size


def test_listings_are_fresh_unless_they_are_to_be_remembered(
    options: dict[str, Any], files: OctadFileSystem, bucket: Bucket
) -> None:
    remembering = OctadFileSystem(use_listings_cache=True, skip_instance_cache=True, **options)
    for each in (files, remembering):
        assert each.ls(bucket.name) == []
    bucket.put("k", b"")
    assert len(files.ls(bucket.name)) == 1
    assert remembering.ls(bucket.name) == []
    remembering.pipe_file(f"{bucket.name}/l", b"")
    assert len(remembering.ls(bucket.name)) == 2


def test_no_thread_is_begun_and_a_forked_child_goes_on(
    files: OctadFileSystem, bucket: Bucket
) -> None:
    path = f"{bucket.name}/k"
    before = threading.active_count()
    files.pipe_file(path, b"parent")
    with files.open(path) as file:
        assert file.read(3) == b"par"
        child = multiprocessing.get_context("fork").Process(target=_child, args=(files, path))
        child.start()
        assert file.read() == b"ent"
        child.join(60)
    assert child.exitcode == 0
    assert files.cat_file(path) == b"child"
    assert threading.active_count() == before


def _child(files: OctadFileSystem, path: str) -> None:
    assert files.cat_file(path) == b"parent"
    files.pipe_file(path, b"child")
    assert fsspec.open(f"octad://{path}", **files.storage_options).open().read() == b"child"


async def test_the_same_awaited(options: dict[str, Any], bucket: Bucket) -> None:
    files = fsspec.filesystem("octad", asynchronous=True, skip_instance_cache=True, **options)
    path = f"{bucket.name}/d/k"
    async with await files.open_async(path, "wb") as file:
        for start in range(0, len(LARGE), MIB):
            await file.write(LARGE[start : start + MIB])
    async with await files.open_async(path) as file:
        assert await file.read(MIB) == LARGE[:MIB]
        file.seek(3)
        assert await file.read() == LARGE[3:]
    assert await files._cat_file(path, start=-5) == LARGE[-5:]
    assert await files._cat_ranges([path] * 3, 1, [2, 3, 4]) == [LARGE[1:n] for n in (2, 3, 4)]
    assert await files._find(bucket.name) == [path]
    assert await files._ls(bucket.name, detail=False) == [f"{bucket.name}/d"]
    assert await files._exists(path)
    assert not await files._isfile(bucket.name)
    await files._pipe({f"{bucket.name}/{n}": b"x" for n in range(5)})
    assert len(await files._cat([f"{bucket.name}/{n}" for n in range(5)])) == 5
    with suppress(ZeroDivisionError):
        async with await files.open_async(f"{bucket.name}/broken", "wb") as file:
            await file.write(LARGE)
            raise ZeroDivisionError
    assert not await files._exists(f"{bucket.name}/broken")
    await files._rm(bucket.name, recursive=True)
    assert not await files._exists(bucket.name)
    files.close()
    with pytest.raises(ClientClosed):
        await files._exists(bucket.name)
