"""The SDK behind obspec's Protocols, and the clients of boto3 and obstore that it configures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import obspec
import pytest
from obspec.exceptions import AlreadyExistsError, NotFoundError, PreconditionError, map_exception
from tests.cluster.clients.client_environment import run_program
from tests.harness.cluster_process import DevCluster

from octad import Bucket, Client, ConfigurationError, ObspecStore, boto3_client

pytestmark = pytest.mark.cluster


class Store(
    obspec.Copy, obspec.CopyAsync, obspec.Delete, obspec.DeleteAsync, obspec.Get, obspec.GetAsync,
    obspec.GetRange, obspec.GetRangeAsync, obspec.GetRanges, obspec.GetRangesAsync, obspec.Head,
    obspec.HeadAsync, obspec.List, obspec.ListAsync, obspec.ListWithDelimiter,
    obspec.ListWithDelimiterAsync, obspec.Put, obspec.PutAsync, obspec.Rename, obspec.RenameAsync,
    Protocol,
):  # fmt: skip
    """All that obspec has."""


@pytest.fixture
def keys(cluster: DevCluster) -> dict[str, Any]:
    return {
        "endpoint": cluster.endpoint(),
        "access_key": cluster.access_key,
        "secret_key": cluster.secret_key,
    }


@pytest.fixture
def bucket(keys: dict[str, Any]) -> Iterator[Bucket]:
    with Client(**keys) as client:
        yield client.create_bucket(f"other-{uuid4().hex[:12]}")


@pytest.fixture
def store(keys: dict[str, Any], bucket: Bucket) -> ObspecStore:
    found: Store = ObspecStore(bucket.name, **keys)  # That it is one is mypy's word.
    assert isinstance(found, ObspecStore)
    return found


def error_of(call: Any, *given: Any, **named: Any) -> Exception:
    """In obspec's terms."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (its type is what is looked at)
        call(*given, **named)
    assert isinstance(raised.value, Exception)
    return map_exception(raised.value)


def test_a_store_does_what_obspec_says(store: ObspecStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    attributes = {"Content-Type": "text/x", "who": "me"}
    done = store.put("a/b", b"0123456789", attributes=attributes, tags={"t": "1"}, mode="create")
    store.put("a/c", tmp_path / "file")
    store.put("ab", iter([b"x", b"y"]))
    got = store.get("a/b")
    assert (got.meta["e_tag"], got.meta["version"]) == (done["e_tag"], done["version"])
    assert got.attributes == attributes
    assert got.range == (0, 10)
    assert bytes(got.buffer()) == b"0123456789"
    assert b"".join(map(bytes, store.get("a/b"))) == b"0123456789"
    ranges: list[tuple[Any, bytes, tuple[int, int]]] = [
        ((2, 5), b"234", (2, 5)),
        ({"offset": 7}, b"789", (7, 10)),
        ({"suffix": 2}, b"89", (8, 10)),
    ]
    for wanted, data, where in ranges:
        part = store.get("a/b", options={"range": wanted})
        assert (bytes(part.buffer()), part.range) == (data, where)
    assert store.get("a/b", options={"head": True}).meta["size"] == 10
    assert bytes(store.get_range("a/b", start=2, length=3)) == b"234"
    assert list(store.get_ranges("a/b", starts=[0, 8], ends=[1, 10])) == [b"0", b"89"]
    assert [meta["path"] for chunk in store.list() for meta in chunk] == ["a/b", "a/c", "ab"]
    assert [meta["path"] for chunk in store.list("a", offset="a/b") for meta in chunk] == ["a/c"]
    folder = store.list_with_delimiter()
    assert folder["common_prefixes"] == ["a"]
    assert [meta["path"] for meta in folder["objects"]] == ["ab"]
    store.copy("a/b", "copy")
    store.rename("copy", "moved")
    store.delete(["a/b", "moved"])
    assert [meta["path"] for chunk in store.list() for meta in chunk] == ["a/c", "ab"]


def test_its_errors_are_those_that_obspec_knows(store: ObspecStore) -> None:
    first = store.put("k", b"1")
    store.put("k", b"2", mode={"e_tag": first["e_tag"]})
    assert isinstance(error_of(store.head, "nothing"), NotFoundError)
    assert isinstance(error_of(store.get, "nothing"), NotFoundError)
    assert isinstance(error_of(store.put, "k", b"", mode="create"), AlreadyExistsError)
    stale = {"version": first["version"]}
    assert isinstance(error_of(store.put, "k", b"", mode=stale), PreconditionError)
    stale = {"if_match": first["e_tag"]}
    assert isinstance(error_of(store.get, "k", options=stale), PreconditionError)
    store.put("l", b"")
    assert isinstance(error_of(store.copy, "k", "l", overwrite=False), AlreadyExistsError)


async def test_the_same_awaited(store: ObspecStore) -> None:
    await store.put_async("a/b", b"0123456789")
    got = await store.get_async("a/b")
    assert bytes(await got.buffer_async()) == b"0123456789"
    assert [bytes(piece) async for piece in await store.get_async("a/b")] == [b"0123456789"]
    assert bytes(await store.get_range_async("a/b", start=8, end=9)) == b"8"
    assert list(await store.get_ranges_async("a/b", starts=[0], lengths=[2])) == [b"01"]
    assert (await store.head_async("a/b"))["size"] == 10
    await store.copy_async("a/b", "c")
    await store.rename_async("c", "d", overwrite=False)
    chunks = [chunk async for chunk in store.list_async()]
    assert [[meta["path"] for meta in chunk] for chunk in chunks] == [["a/b", "d"]]
    assert (await store.list_with_delimiter_async("a"))["objects"][0]["path"] == "a/b"
    await store.delete_async("d")
    store.close()


def test_boto3_is_configured_as_octad_wants_it(keys: dict[str, Any], bucket: Bucket) -> None:
    client = boto3_client(**keys)
    client.put_object(Bucket=bucket.name, Key="k", Body=b"abc")
    assert bucket.get("k").data == b"abc"
    client.close()
    with pytest.raises(ConfigurationError, match="endpoint"):
        boto3_client(None, "k", "s")


def test_obstore_is_configured_as_octad_wants_it(cluster: DevCluster, bucket: Bucket) -> None:
    run_program(cluster, "octad_obstore", bucket.name)
    assert bucket.get("k").data == b"abc"
