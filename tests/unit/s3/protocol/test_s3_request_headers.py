"""Headers: what an object keeps, what goes back, and what would smuggle something."""

from __future__ import annotations

import pytest

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.request_headers import (
    as_signed,
    header_values,
    response_overrides,
    stored_headers,
)


def test_names_are_lower_case_and_repeated_values_are_joined() -> None:
    raw = ((b"X-Amz-Meta-A", b"1"), (b"Host", b"h"), (b"x-amz-meta-a", b"2"))
    assert header_values(raw) == {"x-amz-meta-a": "1,2", "host": "h"}


@pytest.mark.parametrize("wire", ["é".encode(), "é".encode("latin-1"), b"plain"])
def test_metadata_is_kept_byte_for_byte(wire: bytes) -> None:
    headers = header_values([(b"x-amz-meta-a", wire)])
    assert stored_headers(headers)["x-amz-meta-a"].encode("latin-1") == wire


@pytest.mark.parametrize("wire", ["é".encode(), "é".encode("latin-1")])
def test_a_signature_is_over_the_text_that_its_maker_saw(wire: bytes) -> None:
    assert as_signed(header_values([(b"x-amz-meta-a", wire)])) == {"x-amz-meta-a": "é"}


def test_only_what_belongs_to_the_object_is_kept() -> None:
    headers = {
        "host": "h",
        "authorization": "secret",
        "content-length": "5",
        "content-type": "text/plain",
        "cache-control": "no-cache",
        "content-disposition": "inline",
        "content-language": "de",
        "expires": "never",
        "x-amz-meta-color": "red",
        "x-amz-date": "d",
    }
    kept = {"content-type", "cache-control", "content-disposition", "content-language", "expires"}
    assert stored_headers(headers).keys() == kept | {"x-amz-meta-color"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("aws-chunked", None),
        ("gzip,aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("gzip", "gzip"),
        ("gzip, deflate", "gzip, deflate"),
        (" gzip ,x", " gzip ,x"),
        ("gzip, AWS-chunked, br", "gzip, br"),
        ("aws-chunked,", None),
    ],
)
def test_aws_chunked_is_of_the_transfer_and_not_of_the_object(sent: str, kept: str | None) -> None:
    assert stored_headers({"content-encoding": sent}).get("content-encoding") == kept


def test_metadata_of_2_kib_is_the_most() -> None:
    assert stored_headers({"x-amz-meta-ab": "v" * 2046})
    with pytest.raises(S3Error) as refused:
        stored_headers({"x-amz-meta-ab": "v" * 2046, "x-amz-meta-c": ""})
    assert refused.value.code == "MetadataTooLarge"


def test_the_query_overrides_headers_of_the_answer() -> None:
    query = {"response-content-type": "a/b", "response-expires": "x", "partNumber": "1"}
    assert response_overrides(query) == {"content-type": "a/b", "expires": "x"}


def test_the_query_overrides_no_other_header() -> None:
    assert response_overrides({"response-set-cookie": "a", "response-etag": "b"}) == {}


@pytest.mark.parametrize("value", ["日本", "a\r\nSet-Cookie: b", "a\nb", "a\x00", "\x7f"])
def test_an_override_cannot_start_a_header_of_its_own(value: str) -> None:
    with pytest.raises(S3Error) as refused:
        response_overrides({"response-content-type": value})
    assert refused.value.code == "InvalidArgument"
