"""PUT with an offset: what is put behind an object, and what is refused."""

from __future__ import annotations

import hashlib
import os
import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest
from awscrt import checksums as crt
from tests.unit.s3.front_door_site import FrontDoorSite, RawAnswer

from octad.sharding.limits import INLINE_BYTES_MAX, OBJECT_BYTES_MAX
from octad.storage_node.index.rows import ObjectExtras, ObjectRow
from octad.storage_node.operations.appends import APPENDS_MAX
from octad.storage_node.shards.object_store import Bucket, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KIB = 1024


class Log:
    """One key, and appends to it."""

    def __init__(self, site: FrontDoorSite, bucket: str) -> None:
        self.site, self.bucket = site, bucket
        self.path = f"/{bucket}/log"
        self._stored_before = self._in_extents

    def put(self, body: bytes, **headers: str) -> RawAnswer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.site.request("PUT", self.path, headers=named, body=body)

    def append(self, body: bytes, offset: int | str, **headers: str) -> RawAnswer:
        return self.put(body, x_amz_write_offset_bytes=str(offset), **headers)

    def head(self) -> dict[str, str]:
        wanted = {"x-amz-checksum-mode": "ENABLED"}
        return self.site.request("HEAD", self.path, headers=wanted).headers

    @property
    def stands(self) -> bytes:
        return self.site.request("GET", self.path).body

    @property
    def is_in_record(self) -> bool:
        of = self.site.store.buckets[self.bucket].id, b"log"
        return self.site.store.objects[of].data is not None

    @property
    def stored(self) -> int:
        """Bytes in extents, since there is this log."""
        return self._in_extents - self._stored_before

    @property
    def _in_extents(self) -> int:
        return sum(map(len, self.site.store.extents.values()))


@pytest.fixture
def log(site: FrontDoorSite, bucket: str) -> Log:
    return Log(site, bucket)


def refused(answer: RawAnswer) -> tuple[int, str]:
    return answer.status, answer.code


def test_boto3_appends_at_the_end_and_nowhere_else(s3: S3Client, bucket: str) -> None:
    made = s3.put_object(Bucket=bucket, Key="log", Body=b"one ", WriteOffsetBytes=0)
    assert made["ETag"] == f'"{hashlib.md5(b"one ").hexdigest()}"'
    assert made["Size"] == 4
    added = s3.put_object(Bucket=bucket, Key="log", Body=b"two ", WriteOffsetBytes=4)
    assert added["Size"] == 8
    for wrong in (0, 4, 9):
        with pytest.raises(s3.exceptions.InvalidWriteOffset):
            s3.put_object(Bucket=bucket, Key="log", Body=b"no", WriteOffsetBytes=wrong)
    read = s3.get_object(Bucket=bucket, Key="log")
    assert (read["Body"].read(), read["ETag"]) == (b"one two ", added["ETag"])


def test_an_etag_is_of_the_one_before_and_of_the_piece(log: Log) -> None:
    first = log.put(b"one").headers["etag"].strip('"')
    etags = [first]
    for number, piece in enumerate((b"two", b"", b"three"), 2):
        told = log.append(piece, len(log.stands)).headers["etag"].strip('"')
        both = etags[-1] + hashlib.md5(piece).hexdigest()
        assert told == f"{hashlib.md5(both.encode()).hexdigest()}-{number}"
        assert log.head()["etag"] == f'"{told}"'
        etags.append(told)
    assert log.stands == b"onetwothree"


def test_up_to_128_kib_stay_in_the_record_and_more_go_into_extents_once(log: Log) -> None:
    pieces = [bytes([number]) * 30 * KIB for number in range(8)]
    whole = b""
    for piece in pieces:
        assert log.append(piece, len(whole)).status == 200
        whole += piece
        assert log.stands == whole
        assert log.is_in_record == (len(whole) <= INLINE_BYTES_MAX)
    assert log.stored == len(whole), "what was moved is stored once"


@pytest.mark.parametrize("piece", [10, 300 * KIB])
@pytest.mark.parametrize("size", [0, 10, 200 * KIB])
def test_any_piece_goes_behind_any_object(log: Log, size: int, piece: int) -> None:
    log.put(b"a" * size)
    answer = log.append(b"b" * piece, size)
    assert answer.status == 200
    assert answer.headers["x-amz-object-size"] == str(size + piece)
    assert log.stands == b"a" * size + b"b" * piece


def test_a_small_object_in_extents_stays_there(s3: S3Client, log: Log, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="log")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="log", UploadId=upload, PartNumber=1, Body=b"a part ")
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="log",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert log.append(b"and more", 7).status == 200
    assert log.stands == b"a part and more"
    assert not log.is_in_record
    assert log.stored == len(log.stands)
    row = log.site.store.objects[log.site.store.buckets[bucket].id, b"log"].row
    assert row.part_sizes == ()


def test_an_offset_that_is_not_the_size_stores_nothing(log: Log) -> None:
    log.put(b"abc")
    for body in (b"x", bytes(200 * KIB)):
        for offset in (0, 2, 4, 10**17 if body == b"x" else 300 * KIB):
            if offset + len(body) <= OBJECT_BYTES_MAX:
                assert refused(log.append(body, offset)) == (400, "InvalidWriteOffset")
    assert log.stands == b"abc"
    assert log.stored == 0


def put_while_it_is_moved(
    log: Log, monkeypatch: pytest.MonkeyPatch, data: bytes, times: int
) -> None:
    """Each of the first reads of the object is overtaken by a PUT."""
    store, read, left = log.site.store, log.site.store.get_object, iter(range(times))

    async def get_object(bucket: Bucket, key: bytes) -> StoredObject | None:
        stored = await read(bucket, key)
        if next(left, None) is not None:
            await store.put_object(bucket, key, ObjectRow(len(data), "", 0), data, os.urandom(16))
        return stored

    monkeypatch.setattr(store, "get_object", get_object)


def test_what_was_stored_for_an_append_that_lost_is_given_back(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.put(b"abc")
    put_while_it_is_moved(log, monkeypatch, b"late", 1)
    assert refused(log.append(bytes(200 * KIB), 3)) == (400, "InvalidWriteOffset")
    assert log.stands == b"late"
    assert log.stored == 0


@pytest.mark.parametrize("times", [1, 3, 100])
def test_an_object_that_changes_while_it_is_moved_is_moved_again(
    log: Log, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    log.put(b"abc")
    put_while_it_is_moved(log, monkeypatch, b"new", times)
    answer = log.append(bytes(200 * KIB), 3)
    if times == 100:
        assert refused(answer) == (503, "ServiceUnavailable")
        assert log.stands == b"new"
    else:
        assert answer.status == 200
        assert log.stands == b"new" + bytes(200 * KIB)


@pytest.mark.parametrize("offset", ["-1", "1.5", "one", "0x1", "+1", "1" * 19, "1,1"])
def test_what_is_no_offset_is_an_invalid_argument(log: Log, offset: str) -> None:
    log.put(b"abc")
    assert refused(log.append(b"x", offset)) == (400, "InvalidArgument")


def test_an_object_does_not_grow_beyond_what_objects_may_be(log: Log) -> None:
    assert refused(log.append(b"x", OBJECT_BYTES_MAX)) == (400, "EntityTooLarge")


def test_an_object_is_appended_to_ten_thousand_times(log: Log, bucket: str) -> None:
    log.put(b"x", x_amz_tagging="a=1")
    of = log.site.store.buckets[bucket].id, b"log"
    stored = log.site.store.objects[of]
    nearly = ObjectExtras({"a": "1"}, appends=APPENDS_MAX - 1)
    row = msgspec.structs.replace(stored.row, extras=nearly)
    log.site.store.objects[of] = msgspec.structs.replace(stored, row=row)
    assert log.append(b"x", 1).status == 200
    assert refused(log.append(b"x", 2)) == (400, "TooManyParts")
    assert refused(log.append(b"x", 1)) == (400, "InvalidWriteOffset")
    assert log.stands == b"xx"
    assert log.head()["x-amz-tagging-count"] == "1"
    log.put(b"")
    assert log.append(b"x", 0).status == 200, "what is put anew is another object"


def test_a_condition_beside_the_offset_holds_too(log: Log) -> None:
    assert refused(log.append(b"x", 0, if_match="*")) == (404, "NoSuchKey")
    log.append(b"x", 0, if_none_match="*")
    etag = log.head()["etag"]
    assert refused(log.append(b"y", 1, if_match='"other"')) == (412, "PreconditionFailed")
    assert refused(log.append(b"y", 0, if_match=etag)) == (400, "InvalidWriteOffset")
    assert log.append(b"y", 1, if_match=etag).status == 200
    version = log.head()["x-octad-version"]
    assert log.append(b"z", 2, x_octad_if_version=version).status == 200
    assert refused(log.append(b"z", 3, x_octad_if_version=version)) == (412, "PreconditionFailed")
    assert log.stands == b"xyz"


@pytest.mark.parametrize(
    ("algorithm", "of"),
    [
        ("crc32", lambda data: zlib.crc32(data).to_bytes(4, "big")),
        ("crc32c", lambda data: crt.crc32c(data).to_bytes(4, "big")),
        ("crc64nvme", lambda data: crt.crc64nvme(data).to_bytes(8, "big")),
    ],
)
def test_a_crc_of_the_object_goes_on_whatever_the_piece_has(
    log: Log, algorithm: str, of: Callable[[bytes], bytes]
) -> None:
    name = f"x-amz-checksum-{algorithm}"
    log.put(b"one ", **{name: b64encode(of(b"one ")).decode()})
    sha256 = b64encode(hashlib.sha256(b"two ").digest()).decode()
    answer = log.append(b"two ", 4, x_amz_checksum_sha256=sha256)
    whole = b64encode(of(b"one two ")).decode()
    assert answer.headers[name] == whole
    told = log.head()
    assert (told[name], told["x-amz-checksum-type"]) == (whole, "FULL_OBJECT")
    assert "x-amz-checksum-sha256" not in told


def test_a_checksum_that_cannot_be_combined_is_not_told_any_more(log: Log) -> None:
    log.put(b"one", x_amz_checksum_sha256=b64encode(hashlib.sha256(b"one").digest()).decode())
    assert log.append(b"two", 3).status == 200
    assert [name for name in log.head() if name.startswith("x-amz-checksum")] == []


def test_a_piece_that_is_not_what_it_says_is_not_appended(log: Log) -> None:
    log.put(b"one")
    wrong = b64encode(bytes(4)).decode()
    assert refused(log.append(b"two", 3, x_amz_checksum_crc32=wrong)) == (400, "BadDigest")
    assert log.stands == b"one"


def test_headers_and_tags_are_those_that_the_object_was_made_with(log: Log) -> None:
    said = {"content_type": "text/plain", "x_amz_meta_a": "1", "x_amz_tagging": "a=1"}
    log.append(b"one", 0, **said)
    log.append(b"two", 3, content_type="text/html", x_amz_meta_b="2", x_amz_tagging="b=2&c=3")
    told = log.head()
    assert told["content-type"] == "text/plain"
    assert (told["x-amz-meta-a"], told.get("x-amz-meta-b")) == ("1", None)
    assert told["x-amz-tagging-count"] == "1"


def test_a_later_attempt_of_an_sdk_is_told_of_the_first(log: Log) -> None:
    tried = {"amz_sdk_invocation_id": "0c9fae8f-2b0b-4f9d-8a5c-000000000001"}
    first = log.append(b"one", 0, amz_sdk_request="attempt=1; max=3", **tried)
    again = log.append(b"one", 0, amz_sdk_request="attempt=2; max=3", **tried)
    assert (first.status, again.status) == (200, 200)
    assert again.headers["etag"] == first.headers["etag"]
    assert log.stands == b"one"


def test_other_writes_take_no_offset(site: FrontDoorSite, log: Log, bucket: str) -> None:
    log.put(b"abc")
    at = {"x-amz-write-offset-bytes": "3"}
    copy = {**at, "x-amz-copy-source": f"/{bucket}/log"}
    assert refused(site.request("PUT", f"{log.path}-copy", headers=copy)) == (501, "NotImplemented")
    begun = site.request("POST", log.path, "uploads=", headers=at)
    assert refused(begun) == (501, "NotImplemented")


def test_as_aws_an_ordinary_bucket_takes_no_offset() -> None:
    with FrontDoorSite(strict_aws=True) as site:
        site.run(site.store.create_bucket("strict", "alice"))
        assert refused(Log(site, "strict").append(b"x", 0)) == (501, "NotImplemented")


def test_nothing_is_appended_before_every_node_knows_how(
    monkeypatch: pytest.MonkeyPatch, site: FrontDoorSite, log: Log
) -> None:
    monkeypatch.setattr(site.store, "keeps_extras", False)
    assert refused(log.append(b"x", 0)) == (503, "ServiceUnavailable")
