"""Listings against a naive oracle, page by page, through boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.s3.front_door_site import FrontDoorSite

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KEYS = [
    "a", "a/", "a/1", "a/2", "a/b/3", "a0", "b%2F", "b+c", "b/ü/x", "b/ü/y", "c d", "c<&>", "d//e",
    "日本/1", "日本/2", "😀",
]  # fmt: skip


@pytest.fixture(scope="module")
def listed(site: FrontDoorSite, s3: S3Client) -> str:
    """A bucket with KEYS."""
    site.run(site.store.create_bucket("listed-bucket", "alice"))
    for key in KEYS:
        s3.put_object(Bucket="listed-bucket", Key=key, Body=key.encode())
    return "listed-bucket"


def expected(prefix: str, delimiter: str, after: str = "") -> list[str]:
    """Names in order, keys and common prefixes (these with a mark)."""
    names: list[str] = []
    for key in sorted(KEYS, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        found = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if found < 0 else f"prefix:{key[: found + len(delimiter)]}"
        if name not in names:
            names.append(name)
    return names


def names_of(page: Any) -> list[str]:
    keys = [entry["Key"] for entry in page.get("Contents", [])]
    prefixes = [f"prefix:{entry['Prefix']}" for entry in page.get("CommonPrefixes", [])]
    return sorted(keys + prefixes, key=lambda name: name.removeprefix("prefix:").encode())


PREFIXES = st.sampled_from(["", "a", "a/", "a/b/", "b", "日本/", "nothing"])
DELIMITERS = st.sampled_from(["", "/", "ü/", "2", "a"])
ONCE_A_MODULE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ONCE_A_MODULE
@given(PREFIXES, DELIMITERS, st.integers(1, 7))
def test_pages_of_version_2_together_are_the_listing(
    s3: S3Client, listed: str, prefix: str, delimiter: str, max_keys: int
) -> None:
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=listed, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": max_keys}
    )
    names: list[str] = []
    for page in pages:
        found = names_of(page)
        assert len(found) == page["KeyCount"] <= max_keys
        names += found
    assert names == expected(prefix, delimiter)


@ONCE_A_MODULE
@given(PREFIXES, DELIMITERS, st.integers(1, 7))
def test_pages_of_version_1_together_are_the_listing(
    s3: S3Client, listed: str, prefix: str, delimiter: str, max_keys: int
) -> None:
    names: list[str] = []
    marker = ""
    while True:
        page = s3.list_objects(
            Bucket=listed, Prefix=prefix, Delimiter=delimiter, Marker=marker, MaxKeys=max_keys
        )
        names += names_of(page)
        if not page["IsTruncated"]:
            break
        assert bool(delimiter) == ("NextMarker" in page), "a marker is told with a delimiter only"
        marker = page["NextMarker"] if delimiter else page["Contents"][-1]["Key"]
    assert names == expected(prefix, delimiter)


@ONCE_A_MODULE
@given(st.sampled_from([*KEYS, "", "a/3", "zzz"]))
def test_a_listing_starts_after_any_name(s3: S3Client, listed: str, after: str) -> None:
    page = s3.list_objects_v2(Bucket=listed, StartAfter=after)
    assert names_of(page) == expected("", "", after)
    assert page.get("StartAfter", "") == after
    assert names_of(s3.list_objects(Bucket=listed, Marker=after)) == expected("", "", after)


def test_max_keys_0_is_an_empty_page_and_not_truncated(s3: S3Client, listed: str) -> None:
    page = s3.list_objects_v2(Bucket=listed, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"], page["MaxKeys"]) == (0, False, 0)


def test_a_page_without_url_encoding_is_well_formed(site: FrontDoorSite, listed: str) -> None:
    answer = site.request("GET", f"/{listed}", "list-type=2")
    assert answer.headers["content-type"] == "application/xml"
    assert b"<Key>c&lt;&amp;&gt;</Key>" in answer.body


@pytest.mark.parametrize(
    "query",
    [
        "max-keys=-1",
        "max-keys=x",
        "encoding-type=",
        "encoding-type=base64",
        "list-type=2&continuation-token=",
        "list-type=2&continuation-token=nonsense",
        "list-type=1",
        "prefix=a&prefix=b",
    ],
)
def test_a_parameter_that_makes_no_sense_is_400(
    site: FrontDoorSite, listed: str, query: str
) -> None:
    answer = site.request("GET", f"/{listed}", query)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_the_owner_is_shown_where_s3_shows_it(s3: S3Client, listed: str) -> None:
    assert "Owner" in s3.list_objects(Bucket=listed)["Contents"][0]
    assert "Owner" not in s3.list_objects_v2(Bucket=listed)["Contents"][0]
    assert "Owner" in s3.list_objects_v2(Bucket=listed, FetchOwner=True)["Contents"][0]


def test_entries_say_which_checksum_they_have(s3: S3Client, listed: str) -> None:
    entry = s3.list_objects_v2(Bucket=listed, MaxKeys=1)["Contents"][0]
    assert entry["ChecksumAlgorithm"] == ["CRC32"]
    assert entry["ChecksumType"] == "FULL_OBJECT"


def test_listing_what_is_not_there_is_404(site: FrontDoorSite) -> None:
    assert site.request("GET", "/no-such-bucket", "list-type=2").code == "NoSuchBucket"
