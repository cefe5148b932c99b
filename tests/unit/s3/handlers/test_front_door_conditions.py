"""Conditions on writes as clients state them, and the versions that they may name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import FrontDoorSite, RawAnswer

from octad.storage_node.shards.object_store import ConditionsNotKnown

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LARGE = bytes(256 * 1024)  # More than a record holds: its bytes are stored before it is decided.
ABSENT = (404, "NoSuchKey", "")
NO_MATCH = (412, "PreconditionFailed", "If-Match")
MATCH = (412, "PreconditionFailed", "If-None-Match")
NOT_TAKEN = (501, "NotImplemented", "")


class Key:
    """One key, and requests about it."""

    def __init__(self, site: FrontDoorSite, bucket: str) -> None:
        self.site, self.bucket = site, bucket
        self.path = f"/{bucket}/key"

    def put(self, body: bytes, /, **headers: str) -> RawAnswer:
        return self.request("PUT", body, headers)

    def delete(self, **headers: str) -> RawAnswer:
        return self.request("DELETE", b"", headers)

    def request(self, method: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.site.request(method, self.path, headers=named, body=body)

    def version(self) -> str:
        return self.site.request("HEAD", self.path).headers["x-octad-version"]

    @property
    def stands(self) -> bytes | None:
        answer = self.site.request("GET", self.path)
        return answer.body if answer.status == 200 else None


@pytest.fixture
def key(site: FrontDoorSite, bucket: str) -> Key:
    return Key(site, bucket)


@pytest.fixture(scope="module")
def strict() -> Iterator[FrontDoorSite]:
    with FrontDoorSite(strict_aws=True) as site:
        site.run(site.store.create_bucket("strict", "alice"))
        yield site


def outcome(answer: RawAnswer) -> tuple[int, str, str]:
    """Status, code, and the condition that is named."""
    if answer.status < 300:
        return answer.status, "", ""
    return answer.status, answer.code, answer.element("Condition")


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response: Any = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


ETAG = '"0cc175b9c0f1b6a831c399e269772661"'  # The ETag of b"a", the object that stands if any does.
OTHER = '"92eb5ffee6ae2fec3ad71c777531578f"'


@pytest.mark.parametrize(
    ("stands", "headers", "expected"),
    [
        (b"a", {"if_none_match": "*"}, MATCH),
        (b"a", {"if_none_match": ETAG}, MATCH),
        (b"a", {"if_none_match": f"{OTHER}, {ETAG}"}, MATCH),
        (b"a", {"if_none_match": OTHER}, None),
        (b"a", {"if_match": "*"}, None),
        (b"a", {"if_match": ETAG}, None),
        (b"a", {"if_match": ETAG.strip('"')}, None),
        (b"a", {"if_match": f"{OTHER},{ETAG}"}, None),
        (b"a", {"if_match": OTHER}, NO_MATCH),
        (b"a", {"if_match": ETAG, "if_none_match": OTHER}, None),
        (b"a", {"if_match": OTHER, "if_none_match": OTHER}, NO_MATCH),
        (b"a", {"if_match": ETAG, "if_none_match": "*"}, MATCH),
        (None, {"if_none_match": "*"}, None),
        (None, {"if_none_match": ETAG}, None),
        (None, {"if_match": "*"}, ABSENT),
        (None, {"if_match": ETAG}, ABSENT),
        (None, {"if_match": ETAG, "if_none_match": OTHER}, ABSENT),
    ],
)
def test_a_put_is_carried_out_only_where_its_condition_holds(
    key: Key, stands: bytes | None, headers: dict[str, str], expected: tuple[int, str, str] | None
) -> None:
    if stands is not None:
        key.put(stands)
    assert outcome(key.put(b"new", **headers)) == (expected or (200, "", ""))
    assert key.stands == (stands if expected else b"new")


@pytest.mark.parametrize(
    ("stands", "headers", "expected"),
    [
        (b"a", {"if_match": ETAG}, None),
        (b"a", {"if_match": "*"}, None),
        (b"a", {"if_match": OTHER}, NO_MATCH),
        (b"a", {"if_none_match": OTHER}, None),
        (b"a", {"if_none_match": ETAG}, MATCH),
        (b"a", {"x_amz_if_match_size": "1"}, None),
        (
            b"a",
            {"x_amz_if_match_size": "2"},
            (412, "PreconditionFailed", "x-amz-if-match-size"),
        ),
        (
            b"a",
            {"x_amz_if_match_last_modified_time": "Thu, 01 Jan 2015 00:00:00 GMT"},
            (412, "PreconditionFailed", "x-amz-if-match-last-modified-time"),
        ),
        (
            b"a",
            {"if_match": ETAG, "x_amz_if_match_size": "2"},
            (412, "PreconditionFailed", "x-amz-if-match-size"),
        ),
        (None, {"if_match": ETAG}, None),
        (None, {"x_amz_if_match_size": "2"}, None),
        (None, {"x_octad_if_version": "1-1-1"}, ABSENT),
    ],
)
def test_a_delete_is_carried_out_only_where_its_condition_holds(
    key: Key, stands: bytes | None, headers: dict[str, str], expected: tuple[int, str, str] | None
) -> None:
    if stands is not None:
        key.put(stands)
    assert outcome(key.delete(**headers)) == (expected or (204, "", ""))
    assert key.stands == (stands if expected else None)


def test_a_delete_by_its_date_takes_the_second_that_last_modified_tells(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"a")
    date = s3.head_object(Bucket=bucket, Key="key")["LastModified"]
    with pytest.raises(ClientError) as error:
        s3.delete_object(
            Bucket=bucket, Key="key", IfMatchLastModifiedTime=date + timedelta(seconds=1)
        )
    assert refused(error) == (412, "PreconditionFailed")
    s3.delete_object(Bucket=bucket, Key="key", IfMatchLastModifiedTime=date)
    assert site.keys(bucket) == []


def test_each_of_many_is_deleted_by_its_own_condition(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    for name in "abcdef":
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    date = s3.head_object(Bucket=bucket, Key="e")["LastModified"]
    named: Any = [
        {"Key": "a", "ETag": ETAG},
        {"Key": "b", "ETag": ETAG},
        {"Key": "c", "Size": 1},
        {"Key": "d", "Size": 7},
        {"Key": "e", "LastModifiedTime": date},
        {"Key": "f", "LastModifiedTime": datetime(2015, 1, 1, tzinfo=UTC)},
        {"Key": "absent", "ETag": OTHER},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a", "c", "e", "absent"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [
        (name, "PreconditionFailed") for name in "bdf"
    ]
    assert site.keys(bucket) == [b"b", b"d", b"f"]


def test_a_copy_is_made_where_its_target_meets_the_condition_and_its_source_another(
    key: Key, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"b")
    copy = {"x_amz_copy_source": f"{bucket}/source", "x_amz_copy_source_if_match": OTHER}
    assert outcome(key.put(b"", if_match="*", **copy)) == ABSENT
    assert outcome(key.put(b"", if_none_match="*", **copy)) == (200, "", "")
    assert outcome(key.put(b"", if_none_match="*", **copy)) == MATCH
    assert outcome(key.put(b"", if_match=ETAG, **copy)) == NO_MATCH
    copied = key.put(b"", if_match=OTHER, **copy)
    assert copied.headers["x-octad-version"] == key.version()


def test_what_was_stored_for_a_refused_write_is_given_back(site: FrontDoorSite, key: Key) -> None:
    key.put(b"a")
    before = dict(site.store.extents)
    assert outcome(key.put(LARGE, if_none_match="*")) == MATCH
    large = f"/{key.bucket}/large"
    site.request("PUT", large, body=LARGE)
    kept = dict(site.store.extents)
    assert len(kept) == len(before) + 1
    copied = key.put(b"", if_none_match="*", x_amz_copy_source=large)
    assert outcome(copied) == MATCH
    assert site.store.extents == kept


def begun(s3: S3Client, bucket: str) -> dict[str, Any]:
    """What a Complete says of an upload of one part."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    of: dict[str, Any] = {"Bucket": bucket, "Key": "key", "UploadId": upload}
    part = s3.upload_part(**of, PartNumber=1, Body=b"whole")
    return {**of, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}}


def test_an_upload_whose_completion_is_refused_stays_usable(
    key: Key, s3: S3Client, bucket: str
) -> None:
    key.put(b"a")
    upload = begun(s3, bucket)
    conditions: list[dict[str, Any]] = [{"IfNoneMatch": "*"}, {"IfMatch": OTHER}]
    for condition in conditions:
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**upload, **condition)
        assert refused(error) == (412, "PreconditionFailed")
    key.delete()
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**upload, IfMatch=ETAG)
    assert refused(error) == (404, "NoSuchKey")
    done = s3.complete_multipart_upload(**upload, IfNoneMatch="*")
    assert done["ResponseMetadata"]["HTTPHeaders"]["x-octad-version"] == key.version()
    assert key.stands == b"whole"


@pytest.mark.parametrize("condition", [{"IfMatch": ETAG}, {"IfNoneMatch": OTHER}])
def test_an_upload_replaces_under_a_condition_only_what_its_beginner_saw(
    key: Key, s3: S3Client, bucket: str, condition: dict[str, Any]
) -> None:
    key.put(b"a")
    before, overtaken = begun(s3, bucket), begun(s3, bucket)
    s3.complete_multipart_upload(**begun(s3, bucket), **condition)
    key.put(b"a")  # The same bytes: what the condition says of them holds.
    for upload in (before, overtaken):
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**upload, **condition)
        assert refused(error) == (409, "ConditionalRequestConflict")
    s3.complete_multipart_upload(**begun(s3, bucket), **condition)
    assert key.stands == b"whole"


def test_a_version_names_one_write_where_an_etag_names_its_bytes(key: Key) -> None:
    first = key.put(b"a").headers["x-octad-version"]
    assert first == key.version() == key.site.request("GET", key.path).headers["x-octad-version"]
    second = key.put(b"a", x_octad_if_version=first).headers["x-octad-version"]
    assert second != first
    assert outcome(key.put(b"b", if_match=ETAG, x_octad_if_version=first)) == (
        412, "PreconditionFailed", "x-octad-if-version",
    )  # fmt: skip
    unchanged = key.request("GET", b"", {"if_none_match": ETAG})
    assert (unchanged.status, unchanged.headers["x-octad-version"]) == (304, second)
    assert key.delete(x_octad_if_version=first).status == 412
    assert key.delete(x_octad_if_version=second).status == 204
    assert outcome(key.put(b"b", x_octad_if_version=second)) == ABSENT


def test_a_version_of_a_bucket_of_before_is_none_of_the_next_one_of_its_name(
    site: FrontDoorSite, s3: S3Client, key: Key
) -> None:
    old = key.put(b"a").headers["x-octad-version"]
    key.delete()
    s3.delete_bucket(Bucket=key.bucket)
    site.run(site.store.create_bucket(key.bucket, "alice"))
    key.put(b"a")
    number, order = old.split("-", 1)
    new = key.version()
    bucket_id = new.split("-", 1)[0]
    assert bucket_id != number
    assert key.put(b"b", x_octad_if_version=f"{number}-{new.split('-', 1)[1]}").status == 412
    assert key.put(b"b", x_octad_if_version=f"{bucket_id}-{order}").status == 412


@pytest.mark.parametrize(
    "headers",
    [
        {"if_match": ""},
        {"if_none_match": f"{ETAG},"},
        {"x_octad_if_version": ""},
        {"x_octad_if_version": "1-2"},
        {"x_octad_if_version": "1-2-g"},
    ],
)
def test_a_condition_that_says_nothing_sound_is_refused(key: Key, headers: dict[str, str]) -> None:
    answer = key.put(b"new", **headers)
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert key.stands is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x_amz_if_match_size": "-1"},
        {"x_amz_if_match_size": "1e3"},
        {"x_amz_if_match_size": "9" * 30},
        {"x_amz_if_match_last_modified_time": "yesterday"},
        {"x_amz_if_match_last_modified_time": "2015-01-01T00:00:00"},
    ],
)
def test_a_size_or_date_that_is_none_deletes_nothing(key: Key, headers: dict[str, str]) -> None:
    key.put(b"a")
    answer = key.delete(**headers)
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert key.stands == b"a"


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"if_match": "*"}, "If-Match"),
        ({"if_none_match": ETAG}, "If-None-Match"),
        ({"if_none_match": "*", "if_match": ETAG}, "If-Match,If-None-Match"),
    ],
)
def test_a_strict_door_refuses_what_aws_does_not_take(
    strict: FrontDoorSite, headers: dict[str, str], named: str
) -> None:
    key = Key(strict, "strict")
    key.put(b"a")
    answer = key.put(b"b", **headers)
    assert (outcome(answer), answer.element("Header")) == (NOT_TAKEN, named)
    assert key.stands == b"a"


def test_a_strict_door_deletes_as_aws_does(strict: FrontDoorSite) -> None:
    key = Key(strict, "strict")
    key.put(b"a")
    for headers in (
        {"x_amz_if_match_size": "1"},
        {"x_amz_if_match_last_modified_time": "Thu, 01 Jan 2015 00:00:00 GMT"},
        {"if_none_match": OTHER},
    ):
        assert outcome(key.delete(**headers)) == NOT_TAKEN
    assert outcome(key.delete(if_match=OTHER)) == NO_MATCH
    assert outcome(key.delete(if_match="*")) == (204, "", "")
    assert outcome(key.delete(if_match="*")) == ABSENT
    s3 = strict.client()
    s3.put_object(Bucket="strict", Key="key", Body=b"a")
    named: Any = [{"Key": "key", "Size": 1}]
    answer = s3.delete_objects(Bucket="strict", Delete={"Objects": named})
    assert answer["Errors"][0]["Code"] == "NotImplemented"
    assert key.put(b"b", if_match=ETAG).status == 200
    assert outcome(key.put(b"c", if_none_match="*")) == MATCH


def test_no_condition_is_taken_before_every_node_knows_them(
    site: FrontDoorSite, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    key.put(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(site.store, "failure", ConditionsNotKnown())
        answer = key.put(b"b", if_match=ETAG)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert "upgraded" in answer.element("Message")
