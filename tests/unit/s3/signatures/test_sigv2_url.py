"""Presigned URLs of signature version 2: what botocore makes is good, and for nothing more."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import PayloadMode
from octad.client.s3.sigv4_verify import Authenticated, verify_request
from octad.storage_node.s3.protocol.signatures.sigv2_url import is_sigv2_url, verify_sigv2_url

KEY, SECRET = "AKIDEXAMPLE", "a secret"
NOW = 1_800_000_000.0
WEEK_S = 604_800


def secret_of(access_key: str) -> str | None:
    return SECRET if access_key == KEY else None


def verified(
    method: str, path: str, query: str, headers: Mapping[str, str] | None = None
) -> Authenticated:
    return verify_sigv2_url(
        method, path, query, {"host": "h", **(headers or {})}, now=NOW, secret_of=secret_of
    )


def refusal(
    method: str, path: str, query: str, headers: Mapping[str, str] | None = None
) -> S3Error:
    with pytest.raises(S3Error) as refused:
        verified(method, path, query, headers)
    return refused.value


def signed(
    method: str = "GET",
    path: str = "/bucket/key",
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    expires: int = int(NOW) + 60,
    secret: str = SECRET,
) -> str:
    """The query of a URL that is signed by hand, over all of `query`, whatever it is."""
    headers = headers or {}
    ours = "".join(f"{n}:{headers[n]}\n" for n in sorted(headers) if n.startswith("x-amz-"))
    resource = "&".join(f"{name}={value}" for name, value in sorted((query or {}).items()))
    text = (
        f"{method}\n{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n"
        f"{expires}\n{ours}{path}{'?' + resource if resource else ''}"
    )
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()
    mechanism = {"AWSAccessKeyId": KEY, "Signature": signature, "Expires": str(expires)}
    return urlencode({**(query or {}), **mechanism}, quote_via=quote)


KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(
    st.sampled_from(["GET", "HEAD", "PUT"]),
    KEYS,
    st.dictionaries(
        st.sampled_from(["response-content-type", "response-expires", "versionId"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=2, max_size=12),
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from(["content-type", "content-md5", "x-amz-meta-a", "x-amz-acl"]),
        st.text(st.sampled_from("abc/;= "), min_size=1).map(str.strip).filter(bool),
        max_size=4,
    ),
)
def test_what_botocore_signs_is_good(
    method: str, key: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    url = f"http://h/bucket/{quote(key)}"
    if query:
        url += "?" + urlencode(query, quote_via=quote)
    request = AWSRequest(method, url, headers=headers)
    HmacV1QueryAuth(Credentials(KEY, SECRET), expires=60).add_auth(request)
    parts = urlsplit(str(request.url))
    found = verify_sigv2_url(
        method,
        parts.path,
        parts.query,
        {"host": "h", **headers},
        now=float(dict(parse_qsl(parts.query))["Expires"]) - 60,
        secret_of=secret_of,
    )
    assert (found.access_key, found.sigv2, found.presigned) == (KEY, True, True)
    assert found.payload_mode is PayloadMode.UNSIGNED


def test_it_is_good_for_what_was_signed_and_for_nothing_else() -> None:
    query = signed("PUT", headers={"content-type": "a/b", "x-amz-meta-a": "1"})
    good = {"content-type": "a/b", "x-amz-meta-a": "1"}
    assert verified("PUT", "/bucket/key", query, good).access_key == KEY
    for method, path, headers in (
        ("GET", "/bucket/key", good),
        ("PUT", "/bucket/other", good),
        ("PUT", "/bucket/key", {**good, "content-type": "c/d"}),
        ("PUT", "/bucket/key", {**good, "content-md5": "x"}),
        ("PUT", "/bucket/key", {**good, "x-amz-meta-a": "2"}),
        ("PUT", "/bucket/key", {**good, "x-amz-meta-b": "2"}),
        ("PUT", "/bucket/key", {**good, "x-amz-copy-source": "bucket/secret"}),
        ("PUT", "/bucket/key", {"content-type": "a/b"}),
    ):
        assert refusal(method, path, query, headers).code == "SignatureDoesNotMatch"
    later = query.replace(f"Expires={int(NOW) + 60}", f"Expires={int(NOW) + 61}")
    assert refusal("PUT", "/bucket/key", later, good).code == "SignatureDoesNotMatch"
    other = signed("PUT", headers=good, secret="another secret")
    assert refusal("PUT", "/bucket/key", other, good).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/bucket/key"),
        ("POST", "/bucket/key"),
        ("OPTIONS", "/bucket/key"),
        ("GET", "/"),
        ("GET", "/bucket"),
        ("GET", "/bucket/"),
        ("PUT", "/bucket"),
        ("HEAD", "/bucket"),
    ],
)
def test_only_an_object_is_read_or_put(method: str, path: str) -> None:
    assert refusal(method, path, signed(method, path)).code == "AccessDenied"


@pytest.mark.parametrize(
    "name",
    [
        "acl",
        "append",
        "foo",
        "list-type",
        "partNumber",
        "response-set-cookie",
        "tagging",
        "uploadId",
        "uploads",
        "x-amz-acl",
        "x-amz-copy-source",
        "x-id",
        "content-type",
        "Content-Type",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_a_parameter_that_it_does_not_cover_is_refused(method: str, name: str) -> None:
    """Signed or not: version 2 signs a few names only, so another may have been added."""
    path = "/bucket/key"
    assert refusal(method, path, signed(method) + f"&{name}=1").code == "AccessDenied"
    assert refusal(method, path, signed(method, query={name: "1"})).code == "AccessDenied"


@pytest.mark.parametrize("name", ["content-type", "content-md5", "x-amz-meta-a"])
def test_a_signed_header_may_stand_in_the_query_too_if_it_says_the_same(name: str) -> None:
    query = signed("PUT", headers={name: "a/b"}) + f"&{name}=a%2Fb"
    assert verified("PUT", "/bucket/key", query, {name: "a/b"}).sigv2
    assert refusal("PUT", "/bucket/key", query, {name: "c/d"}).code == "AccessDenied"
    assert refusal("PUT", "/bucket/key", query).code == "AccessDenied"


def test_what_the_query_asks_of_the_answer_is_signed() -> None:
    query = signed(query={"response-content-type": "text/plain; charset=utf-8"})
    assert verified("GET", "/bucket/key", query).sigv2
    spoilt = query.replace("plain", "html")
    assert refusal("GET", "/bucket/key", spoilt).code == "SignatureDoesNotMatch"
    added = signed() + "&response-content-type=text/html"
    assert refusal("GET", "/bucket/key", added).code == "SignatureDoesNotMatch"
    broken = signed(query={"response-content-type": "a\nb"})
    assert refusal("GET", "/bucket/key", broken).code == "AccessDenied"


@pytest.mark.parametrize(
    "expires", [int(NOW) - 1, 0, int(NOW) + WEEK_S + 1, 10**11, 10**30, -1, "x", "", "1e9", "１"]
)
def test_it_expires_within_a_week(expires: object) -> None:
    assert verified("GET", "/bucket/key", signed(expires=int(NOW) + WEEK_S)).sigv2
    assert verified("GET", "/bucket/key", signed(expires=int(NOW))).sigv2
    query = signed(expires=expires)  # type: ignore[arg-type]
    assert refusal("GET", "/bucket/key", query).code == "AccessDenied"


def test_every_part_of_it_is_needed_once() -> None:
    query = signed()
    for name in ("Signature", "Expires"):
        without = "&".join(pair for pair in query.split("&") if not pair.startswith(name))
        assert refusal("GET", "/bucket/key", without).code == "AccessDenied"
    assert refusal("GET", "/bucket/key", f"{query}&Expires=1").code == "AccessDenied"
    assert not is_sigv2_url("Signature=x&Expires=1")


def test_an_unknown_key_is_told_as_one() -> None:
    assert (
        refusal("GET", "/bucket/key", signed().replace(KEY, "OTHER")).code == "InvalidAccessKeyId"
    )


def test_two_mechanisms_at_once_are_refused() -> None:
    query = signed()
    for headers, added in (({"authorization": "AWS4"}, ""), ({}, "&X-Amz-Signature=x")):
        assert refusal("GET", "/bucket/key", query + added, headers).code == "InvalidArgument"
    with pytest.raises(S3Error) as refused:
        verify_request(
            "GET",
            "/bucket/key",
            query,
            {"host": "h", "authorization": "AWS4-HMAC-SHA256 x"},
            now=NOW,
            region="r",
            secret_of=secret_of,
        )
    assert (refused.value.code, refused.value.http_status) == ("InvalidArgument", 400)


@pytest.mark.parametrize(
    ("content_sha256", "code"),
    [
        ("UNSIGNED-PAYLOAD", ""),
        ("a" * 64, ""),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "AccessDenied"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "AccessDenied"),
        ("no hash", "InvalidArgument"),
    ],
)
def test_a_body_is_framed_as_its_header_says(content_sha256: str, code: str) -> None:
    headers = {"x-amz-content-sha256": content_sha256}
    query = signed("PUT", headers=headers)
    if code:
        assert refusal("PUT", "/bucket/key", query, headers).code == code
    else:
        found = verified("PUT", "/bucket/key", query, headers)
        assert found.content_sha256 == content_sha256
