"""botocore as the oracle: what it signs verifies here, and what is signed here is what it signs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.s3.signatures.signed_request import CREDENTIALS, HOST, NOW, REGION, verify

from octad.client.s3.sigv4 import presign_query, sign_request
from octad.client.s3.sigv4_claim import SigV4Error

METHODS = st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"])
KEYS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x00", exclude_categories=["Cs"]),
    min_size=1,
    max_size=30,
)
ODD_KEYS = st.sampled_from(
    ["a+b", "a b", "a%2Fb", "%2F", "//", "a//b", ".", "..", "a/../b", "./a", "é/ü", "日本", "a~b_c",
     "a=b&c", "a?b", "a#b", "*'()", "%", "%zz", "trailing/", "😀"]
)  # fmt: skip
QUERY = st.lists(
    st.tuples(st.sampled_from(["prefix", "delimiter", "acl", "a", "a-b", "list-type"]), KEYS),
    max_size=4,
    unique_by=lambda pair: pair[0],
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(["range", "content-type", "x-amz-meta-a", "x-amz-acl", "content-md5"]), VALUES
)


@pytest.fixture(autouse=True, scope="module")
def frozen_clock() -> Iterator[None]:
    moment = datetime.fromtimestamp(NOW, UTC)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=moment):
        yield


def sign_with_botocore(
    method: str, path: str, query: str, headers: dict[str, str], *, presign: bool
) -> tuple[str, dict[str, str]]:
    """(query, headers with lower-case names) as botocore would send them."""
    credentials = botocore.credentials.Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key)
    url = f"https://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers={**headers, "host": HOST})
    signer = botocore.auth.S3SigV4QueryAuth if presign else botocore.auth.S3SigV4Auth
    signer(credentials, "s3", REGION).add_auth(request)
    sent = {name.lower(): value for name, value in request.headers.items()}
    return urlsplit(str(request.url)).query, sent


def encoded(query: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query)


@settings(max_examples=150, deadline=None)
@given(METHODS, KEYS | ODD_KEYS, QUERY, HEADERS)
def test_what_botocore_signs_in_a_header_verifies(
    method: str, key: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    path = f"/bucket/{quote(key, safe='/~')}"
    sent_query, sent = sign_with_botocore(method, path, encoded(query), headers, presign=False)
    assert verify(method, path, sent_query, sent).access_key == CREDENTIALS.access_key


@settings(max_examples=150, deadline=None)
@given(METHODS, KEYS | ODD_KEYS, QUERY, HEADERS)
def test_what_botocore_presigns_verifies(
    method: str, key: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    path = f"/bucket/{quote(key, safe='/~')}"
    sent_query, sent = sign_with_botocore(method, path, encoded(query), headers, presign=True)
    verified = verify(method, path, sent_query, sent)
    assert verified.access_key == CREDENTIALS.access_key
    assert verified.presigned


@pytest.mark.parametrize("presign", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/b/a+b",
        "/b/a%2fb",
        "/b/a%2Fb",
        "/b//a",
        "/b/./a",
        "/b/../a",
        "/b/%61",
        "/b/a:b@c",
        "//",
        "/b",
    ],
)
def test_a_path_that_botocore_is_given_unencoded_verifies_as_it_is_sent(
    path: str, presign: bool
) -> None:
    query, sent = sign_with_botocore("GET", path, "", {}, presign=presign)
    assert verify("GET", path, query, sent).access_key == CREDENTIALS.access_key


@settings(max_examples=150, deadline=None)
@given(METHODS, KEYS | ODD_KEYS, QUERY, HEADERS)
def test_we_sign_headers_as_botocore_does(
    method: str, key: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    path = f"/bucket/{quote(key, safe='/~')}"
    _, theirs = sign_with_botocore(method, path, encoded(query), headers, presign=False)
    ours, _ = sign_request(
        method=method,
        path=path,
        query=encoded(query),
        headers={**headers, "host": HOST},
        credentials=CREDENTIALS,
        region=REGION,
        now=NOW,
        content_sha256=theirs["x-amz-content-sha256"],
    )
    assert ours["authorization"] == theirs["authorization"]


@settings(max_examples=150, deadline=None)
@given(METHODS, KEYS | ODD_KEYS, HEADERS)
def test_we_presign_as_botocore_does(method: str, key: str, headers: dict[str, str]) -> None:
    path = f"/bucket/{quote(key, safe='/~')}"
    theirs, sent = sign_with_botocore(method, path, "", headers, presign=True)
    # botocore moves some headers into the query; only what it still sends is signed as a header.
    assume(set(sent) == {*headers, "host"})
    ours = presign_query(
        method=method,
        path=path,
        query="",
        headers=sent,
        credentials=CREDENTIALS,
        region=REGION,
        now=NOW,
        expires_s=3600,
    )
    assert sorted(ours.split("&")) == sorted(theirs.split("&"))


@settings(max_examples=100, deadline=None)
@given(st.data(), METHODS, KEYS, QUERY, HEADERS)
def test_one_changed_character_of_a_signed_request_is_refused(
    data: st.DataObject,
    method: str,
    key: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
) -> None:
    path = f"/bucket/{quote(key, safe='/~')}"
    sent_query, sent = sign_with_botocore(method, path, encoded(query), headers, presign=False)
    position = data.draw(st.integers(8, len(path)))
    with pytest.raises(SigV4Error) as caught:
        verify(method, f"{path[:position]}x{path[position:]}", sent_query, sent)
    assert caught.value.code == "SignatureDoesNotMatch"
