"""Targets are read exactly as they came: nothing is normalised, nothing is guessed."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.targets import parse_query, split_path, split_target


@pytest.mark.parametrize(
    ("path", "bucket", "key"),
    [
        ("/", "", b""),
        ("/bucket", "bucket", b""),
        ("/bucket/", "bucket", b""),
        ("/bucket/key", "bucket", b"key"),
        ("/bucket//key", "bucket", b"/key"),
        ("/bucket/a/../b/./c", "bucket", b"a/../b/./c"),
        ("/bucket/a%2Fb", "bucket", b"a/b"),
        ("/bucket/a+b", "bucket", b"a+b"),
        ("/bucket/a%20b%25", "bucket", b"a b%"),
        ("/bucket/%C3%BC", "bucket", "ü".encode()),
        ("/bucket/dir/", "bucket", b"dir/"),
        ("/bucket/a%00b", "bucket", b"a\x00b"),
    ],
)
def test_a_path_is_its_bucket_and_the_exact_key(path: str, bucket: str, key: bytes) -> None:
    assert split_path(path) == (bucket, key)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_key_survives_the_path_that_a_client_makes_of_it(key: str) -> None:
    assert split_path(f"/bucket/{quote(key, safe='/')}") == ("bucket", key.encode())


@pytest.mark.parametrize("path", ["/b/%", "/b/%4", "/b/%zz", "/b/%FF", "/b/%ED%A0%80"])
def test_a_bad_escape_and_what_is_not_utf_8_are_refused(path: str) -> None:
    with pytest.raises(S3Error) as refused:
        split_path(path)
    assert refused.value.code == "InvalidURI"


def test_a_target_may_carry_scheme_and_host() -> None:
    assert split_target("/b/k?a=1") == ("/b/k", "a=1")
    assert split_target("http://host:9000/b/k?a=1?") == ("/b/k", "a=1?")


@pytest.mark.parametrize("target", ["*", "host:443", "http://host"])
def test_a_target_without_a_path_is_refused(target: str) -> None:
    with pytest.raises(S3Error) as refused:
        split_target(target)
    assert refused.value.code == "InvalidURI"


def test_a_query_is_decoded_and_keeps_names_without_values() -> None:
    assert parse_query("acl&prefix=a%2Fb+c&empty=&") == {"acl": "", "prefix": "a/b c", "empty": ""}


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(S3Error) as refused:
        parse_query("prefix=a&pre%66ix=b")
    assert refused.value.code == "InvalidArgument"
