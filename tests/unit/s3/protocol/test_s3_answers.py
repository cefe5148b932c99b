"""Heads on the wire, and the store's refusals in S3's words."""

from __future__ import annotations

import pytest

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.answers import Answer, error_answer, head_bytes
from octad.storage_node.s3.protocol.store_errors import s3_error_of
from octad.storage_node.shards.object_store import (
    BucketNotEmpty,
    Damaged,
    DiskFull,
    NoSuchBucket,
    NoSuchUpload,
    StoreError,
    Unavailable,
)


def head(answer: Answer) -> bytes:
    return head_bytes(answer, request_id="ID", date="DATE", connection="")


def test_a_head_is_these_bytes() -> None:
    assert head(Answer(200, 'ETag: "e"\r\n', b"body")) == (
        b"HTTP/1.1 200 OK\r\nServer: octad\r\nDate: DATE\r\nx-amz-request-id: ID\r\n"
        b'ETag: "e"\r\nContent-Length: 4\r\n\r\n'
    )


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_never_has_a_body_has_no_length(status: int) -> None:
    assert b"Content-Length" not in head(Answer(status))


def test_header_text_is_one_byte_a_character() -> None:
    assert b"x-amz-meta-a: \xe9\r\n" in head(Answer(200, "x-amz-meta-a: \xe9\r\n"))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NoSuchBucket(), 404, "NoSuchBucket"),
        (BucketNotEmpty(), 409, "BucketNotEmpty"),
        (NoSuchUpload(), 404, "NoSuchUpload"),
        (Unavailable(), 503, "ServiceUnavailable"),
        (DiskFull(), 507, "InsufficientStorage"),
        (Damaged("segment 3 at 4096"), 500, "InternalError"),
    ],
)
def test_what_the_store_refuses_has_a_name_in_s3(error: StoreError, status: int, code: str) -> None:
    refusal = s3_error_of(error)
    assert (refusal.http_status, refusal.code) == (status, code)
    assert "segment" not in refusal.message


def test_an_unknown_outcome_asks_to_try_again() -> None:
    answer = error_answer(S3Error("ServiceUnavailable"), resource="/b/k", request_id="ID")
    assert b"Retry-After: 1\r\n" in head(answer)
