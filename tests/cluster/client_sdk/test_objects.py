"""Buckets and objects through the SDK, with both of its faces, on real nodes."""

from __future__ import annotations

import io
import os
import random
import threading
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from tests.cluster.client_sdk.faces import Open
from tests.harness.cluster_process import DevCluster
from yarl import URL

from octad import (
    AccessDenied,
    AsyncBucket,
    AsyncClient,
    BucketNotEmpty,
    BucketNotFound,
    CannotReach,
    CommonPrefix,
    ConditionFailed,
    ConfigurationError,
    Object,
    ObjectInfo,
    ObjectNotFound,
    Refused,
    WrongKey,
    WrongProtocol,
)
from octad.chaos.cluster.free_ports import free_port

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
LARGE = random.Random(7).randbytes(20 * MIB + 17)  # Three parts.


async def test_what_was_put_is_got_with_all_that_was_said_of_it(bucket: AsyncBucket) -> None:
    put = await bucket.put(
        "a b/ü+%.txt",
        b"hello",
        content_type="text/plain",
        cache_control="no-store",
        metadata={"who": "Zoë", "x-1": "y"},
        tags={"colour": "dark blue"},
    )
    got = await bucket.get("a b/ü+%.txt")
    assert isinstance(got, Object)
    assert bytes(got) == b"hello"
    assert got.info.etag == put.etag
    assert got.info.version == put.version != ""
    assert got.info.content_type == "text/plain"
    assert got.info.cache_control == "no-store"
    assert got.info.metadata == {"who": "Zoë", "x-1": "y"}
    assert (await bucket.head("a b/ü+%.txt")).modified == got.info.modified
    assert await bucket.tags("a b/ü+%.txt") == {"colour": "dark blue"}
    await bucket.set_tags("a b/ü+%.txt", {})
    assert await bucket.tags("a b/ü+%.txt") == {}


@pytest.mark.parametrize("size", [0, 1, 200_000, 3 * MIB])
async def test_bytes_of_any_size_come_back(bucket: AsyncBucket, size: int) -> None:
    for kind in (bytes, bytearray, memoryview):
        await bucket.put("k", kind(LARGE[:size]))
        assert (await bucket.get("k")).data == LARGE[:size]


async def test_ranges_are_what_they_say(bucket: AsyncBucket) -> None:
    await bucket.put("k", b"0123456789")
    assert (await bucket.get("k", start=3)).data == b"3456789"
    assert (await bucket.get("k", start=3, end=5)).data == b"34"
    tail = await bucket.get("k", start=-2)
    assert (tail.data, tail.info.size) == (b"89", 10)
    ranges = [(0, 1), (8, 10), (2, 5)] * 20
    assert await bucket.get_ranges("k", ranges) == [b"0", b"89", b"234"] * 20
    with pytest.raises(ConfigurationError):
        await bucket.get("k", start=5, end=5)


async def test_large_objects_go_up_in_parts_from_whatever_source(
    bucket: AsyncBucket, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    pieces = [LARGE[at : at + 700_001] for at in range(0, len(LARGE), 700_001)]
    with path.open("rb") as file, io.BytesIO(b"skipped" + LARGE) as stream:
        stream.seek(len(b"skipped"))
        for source in (LARGE, path, file, stream, iter(pieces)):
            put = await bucket.put("k", source, metadata={"a": "b"})
            assert put.size == len(LARGE)
            assert put.etag.endswith("-3")
            got = await bucket.get("k")
            assert got.data == LARGE
            assert (got.info.etag, got.info.metadata) == (put.etag, {"a": "b"})


async def test_short_iterators_make_plain_objects(bucket: AsyncBucket) -> None:
    assert (await bucket.put("k", iter([b"ab", b"", b"c"]))).etag.count("-") == 0
    assert (await bucket.get("k")).data == b"abc"
    await bucket.put("k", iter(()))
    assert (await bucket.get("k")).data == b""


async def test_an_asynchronous_iterator_can_be_put(cluster: DevCluster) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(LARGE), MIB):
            yield LARGE[at : at + MIB]

    keys = cluster.access_key, cluster.secret_key
    async with AsyncClient(cluster.endpoint(), *keys) as client:
        bucket = await client.create_bucket(f"sdk-{uuid4().hex[:12]}")
        await bucket.put("k", pieces())
        assert (await bucket.get("k")).data == LARGE


async def test_streams_give_all_bytes_and_may_be_left(bucket: AsyncBucket) -> None:
    await bucket.put("k", LARGE)
    async with bucket.stream("k") as stream:
        assert stream.info.size == len(LARGE)
        assert b"".join([piece async for piece in stream]) == LARGE
    async with bucket.stream("k", start=10, end=3 * MIB) as stream:
        assert await stream.read(5) == LARGE[10:15]
        assert await stream.read() == LARGE[15 : 3 * MIB]
        assert await stream.read() == b""
    async with bucket.stream("k") as stream:
        await stream.read(1)  # And no more of it.
    assert (await bucket.get("k", start=5, end=7)).data == LARGE[5:7]


async def test_a_download_is_all_or_nothing(bucket: AsyncBucket, tmp_path: Path) -> None:
    path = tmp_path / "here"
    for data in (LARGE, b"", b"short"):
        await bucket.put("k", data)
        assert (await bucket.download("k", path)).size == len(data)
        assert path.read_bytes() == data
    with pytest.raises(ObjectNotFound):
        await bucket.download("other", path)
    assert os.listdir(tmp_path) == ["here"]  # noqa: PTH208
    assert path.read_bytes() == b"short"


async def test_a_listing_has_no_end_of_page(bucket: AsyncBucket, client: AsyncClient) -> None:
    keys = sorted(f"d{number % 3}/k{number:04} +ü" for number in range(1203))
    for key in keys[:3]:
        await bucket.put(key, b"x")
    await _put_all(bucket, keys[3:])
    assert [entry.key async for entry in bucket.list()] == keys
    some = [entry async for entry in bucket.list("d1/", start_after=keys[500])]
    assert [entry.key for entry in some] == [
        key for key in keys if key.startswith("d1/") and key > keys[500]
    ]
    assert {entry.size for entry in some} == {1}
    folders = [entry async for entry in bucket.list_folder()]
    assert folders == [CommonPrefix("d0/"), CommonPrefix("d1/"), CommonPrefix("d2/")]
    inside = [entry async for entry in bucket.list_folder("d1/")]
    assert all(isinstance(entry, ObjectInfo) for entry in inside)
    async for _ in bucket.list():  # One may leave in the middle.
        break
    assert await bucket.delete_many(keys) == ()
    assert [entry async for entry in bucket.list()] == []


async def _put_all(bucket: AsyncBucket, keys: list[str]) -> None:
    """By threads, where calls do not wait for each other's sake."""
    from tests.cluster.client_sdk.faces import Awaited

    if not isinstance(bucket, Awaited):
        import asyncio

        for at in range(0, len(keys), 50):
            await asyncio.gather(*(bucket.put(key, b"x") for key in keys[at : at + 50]))
        return
    blocking = bucket._blocking
    threads = [
        threading.Thread(target=lambda mine: [blocking.put(k, b"x") for k in mine], args=(part,))
        for part in (keys[first::8] for first in range(8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def test_conditions_hold_or_nothing_is_written(bucket: AsyncBucket) -> None:
    first = await bucket.put("k", b"1", if_none_match="*")
    with pytest.raises(ConditionFailed):
        await bucket.put("k", b"2", if_none_match="*")
    second = await bucket.put("k", b"2", if_match=first.etag)
    with pytest.raises(ConditionFailed):
        await bucket.put("k", b"3", if_version=first.version)
    with pytest.raises(ConditionFailed):
        await bucket.put("k", LARGE, if_version=first.version)
    third = await bucket.put("k", LARGE, if_version=second.version)
    with pytest.raises(ConditionFailed):
        await bucket.delete("k", if_match=first.etag)
    await bucket.delete("k", if_version=third.version)
    assert not await bucket.exists("k")


async def test_copies_and_appends(bucket: AsyncBucket) -> None:
    await bucket.put("a", b"abc", metadata={"m": "1"})
    await bucket.copy("a", "b ü")
    copied = await bucket.get("b ü")
    assert (copied.data, copied.info.metadata) == (b"abc", {"m": "1"})
    assert (await bucket.append("log", b"one ")).size == 4
    assert (await bucket.append("log", b"two ")).size == 8
    assert (await bucket.append("log", b"three", offset=8)).size == 13
    with pytest.raises(ConditionFailed, match="size"):
        await bucket.append("log", b"x", offset=8)
    assert (await bucket.get("log")).data == b"one two three"


async def test_presigned_urls_and_forms_work_without_keys(bucket: AsyncBucket) -> None:
    await bucket.put("a b", b"abc")
    url = await bucket.presign("a b")
    async with aiohttp.ClientSession() as session:
        async with session.get(URL(url, encoded=True)) as answer:
            assert (answer.status, await answer.read()) == (200, b"abc")
        url = await bucket.presign("new", method="PUT", expires_s=60)
        async with session.put(URL(url, encoded=True), data=b"put") as answer:
            assert answer.status == 200
        form = await bucket.presign_post("up/${filename}", bytes_max=10)
        for data, status in ((b"posted", 204), (b"far too many bytes", 400)):
            fields = aiohttp.FormData(form.fields)
            fields.add_field("file", data, filename="f.txt")
            async with session.post(form.url, data=fields) as answer:
                assert answer.status == status
    assert (await bucket.get("new")).data == b"put"
    assert (await bucket.get("up/f.txt")).data == b"posted"


async def test_buckets_are_made_shown_and_removed(client: AsyncClient) -> None:
    name = f"sdk-{uuid4().hex[:12]}"
    assert not await client.bucket(name).exists()
    bucket = await client.create_bucket(name, strict=True)
    assert await bucket.exists()
    assert name in [each.name async for each in client.list_buckets()]
    assert [each.name async for each in client.list_buckets(name)] == [name]
    await bucket.put("k", b"")
    with pytest.raises(BucketNotEmpty):
        await client.delete_bucket(name)
    await bucket.delete("k")
    await client.delete_bucket(name)
    with pytest.raises(BucketNotFound):
        await bucket.get("k")


async def test_what_is_not_there_is_named(bucket: AsyncBucket, client: AsyncClient) -> None:
    with pytest.raises(ObjectNotFound, match=f"{bucket.name}/nothing"):
        await bucket.get("nothing")
    with pytest.raises(ObjectNotFound):
        await bucket.head("nothing")
    with pytest.raises(ObjectNotFound):
        await bucket.get("nothing", fallback=b"only for a cluster that cannot answer")
    with pytest.raises(BucketNotFound, match="create the bucket"):
        await client.bucket("no-such-bucket").put("k", b"")
    with pytest.raises(Refused, match="InvalidBucketName"):
        await client.create_bucket("UPPER")


async def test_wrong_keys_and_endpoints_say_what_to_correct(
    cluster: DevCluster, open_client: Open
) -> None:
    keys = cluster.access_key, cluster.secret_key
    async with open_client(cluster.endpoint(), "nobody", "whatever") as client:
        with pytest.raises(WrongKey, match="check the access key"):
            await client.bucket("b").get("k")
    async with open_client(cluster.endpoint(), keys[0], "wrong") as client:
        with pytest.raises(AccessDenied, match="check the secret key"):
            await client.bucket("b").get("k")
    async with open_client(cluster.endpoint().replace("http:", "https:"), *keys) as client:
        with pytest.raises(WrongProtocol, match="use http://"):
            await client.bucket("b").get("k")
    async with open_client(cluster.coordinator, *keys) as client:
        with pytest.raises(WrongProtocol, match="no S3 server"):
            await client.bucket("b").get("k")
    async with open_client(f"http://127.0.0.1:{free_port(range(1))}", *keys) as client:
        with pytest.raises(CannotReach, match="Connection refused"):
            await client.bucket("b").get("k")
        assert await client.bucket("b").get("k", fallback=None) is None


async def test_no_key_is_an_error_before_any_request(open_client: Open) -> None:
    for endpoint in ("ftp://host", "http://host:port", "host:9000", "http://host/path"):
        with pytest.raises(ConfigurationError, match="http://host:9000"):
            open_client(endpoint, "key", "secret")


def test_presigned_urls_need_no_library(cluster: DevCluster) -> None:
    from octad import Client

    with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
        bucket = client.create_bucket(f"sdk-{uuid4().hex[:12]}")
        bucket.put("k", b"abc")
        with urllib.request.urlopen(bucket.presign("k")) as answer:
            assert answer.read() == b"abc"
