"""Presigned URLs: who signed them, and until when they are good."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.s3.signatures.signed_request import CREDENTIALS, HOST, NOW, REGION, Request, verify
from tests.unit.s3.signatures.test_sigv4_verify import CONTENT_SHA256, refused

from octad.client.s3.sigv4 import (
    EMPTY_SHA256,
    PayloadMode,
    canonical_request,
    scope_of,
    signature_of,
    signing_key,
    split_query,
    string_to_sign,
)


@pytest.mark.parametrize("content_sha256", CONTENT_SHA256)
def test_a_presigned_url_may_sign_the_kind_of_body(content_sha256: str) -> None:
    headers = {"host": HOST, "x-amz-content-sha256": content_sha256}
    verified = Request("PUT", headers=headers).presigned().verified()
    assert verified.content_sha256 == content_sha256
    assert verified.presigned


def test_a_presigned_url_may_carry_the_bodys_hash_in_its_query() -> None:
    query = f"X-Amz-Content-Sha256={EMPTY_SHA256}"
    scoped = Request("PUT", query=query, headers={"host": HOST})
    sent = Request("PUT", query=query, headers={"host": HOST, "x-amz-content-sha256": EMPTY_SHA256})
    pairs = dict(split_query(scoped.presigned().query))
    # The same request, with the hash in the canonical request's last line as well.
    del pairs["X-Amz-Signature"]
    canonical = "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
    text = canonical_request("PUT", sent.path, canonical, ("host",), sent.headers, EMPTY_SHA256)
    key = signing_key(CREDENTIALS.secret_key, "20130524", REGION)
    signature = signature_of(
        key, string_to_sign("20130524T000000Z", scope_of("20130524", REGION), text)
    )
    verified = verify("PUT", sent.path, f"{canonical}&X-Amz-Signature={signature}", {"host": HOST})
    assert verified.payload_mode is PayloadMode.SIGNED
    assert verified.content_sha256 == EMPTY_SHA256


@pytest.mark.parametrize("name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders"])
@pytest.mark.parametrize("how", ["missing", "empty", "twice"])
def test_a_presigned_url_has_all_its_parameters_exactly_once(name: str, how: str) -> None:
    request = Request().presigned()
    pairs = split_query(request.query)
    value = dict(pairs)[f"X-Amz-{name}"]
    rest = [pair for pair in pairs if pair[0] != f"X-Amz-{name}"]
    spoiled = {
        "missing": rest,
        "empty": [*rest, (f"X-Amz-{name}", "")],
        "twice": [*pairs, (f"X-Amz-{name}", value)],
    }[how]
    query = "&".join(f"{name}={value}" for name, value in spoiled)
    error = refused(dataclasses.replace(request, query=query))
    assert (error.code, error.http_status) == ("AuthorizationQueryParametersError", 400)


@pytest.mark.parametrize("name", ["X-Amz-Signature", "x-amz-signature", "X%2DAmz%2DSignature"])
def test_a_second_signature_does_not_replace_the_first(name: str) -> None:
    request = Request().presigned()
    request.query += f"&{name}={'0' * 64}"
    assert refused(request).http_status in (400, 403)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Algorithm", "AWS4-HMAC-SHA512", "X-Amz-Algorithm only supports"),
        ("Credential", "AKIA", "the Credential is mal-formed"),
        ("Date", "20130524", "X-Amz-Date must be in the ISO8601 Long Format"),
        ("Expires", "soon", "X-Amz-Expires should be a number"),
        ("Expires", "-", "X-Amz-Expires should be a number"),
        ("Expires", "1e3", "X-Amz-Expires should be a number"),
        ("Expires", "-1", "X-Amz-Expires must be non-negative"),
        ("Expires", "-0", "X-Amz-Expires must be non-negative"),
        ("Expires", "604801", "X-Amz-Expires must be less than a week"),
        ("Expires", "9" * 5000, "X-Amz-Expires must be less than a week"),
    ],
)
def test_a_malformed_parameter_of_a_presigned_url_is_named(
    name: str, value: str, message: str
) -> None:
    request = Request().presigned()
    pairs = {**dict(split_query(request.query)), f"X-Amz-{name}": value}
    request.query = "&".join(f"{name}={value}" for name, value in pairs.items())
    error = refused(request)
    assert (error.code, error.http_status) == ("AuthorizationQueryParametersError", 400)
    assert message in error.message


def test_a_presigned_url_ends_when_it_says() -> None:
    request = Request().presigned(expires_s=60)
    assert request.verified(now=NOW + 60).access_key == CREDENTIALS.access_key
    error = refused(request, now=NOW + 60.5)
    assert (error.code, error.http_status) == ("AccessDenied", 403)
    assert error.message == "Request has expired"
    assert error.fields["Expires"] == "2013-05-24T00:01:00.000Z"


def test_a_presigned_url_that_is_good_for_no_second_has_expired() -> None:
    request = Request().presigned(expires_s=60)
    request.query = request.query.replace("X-Amz-Expires=60", "X-Amz-Expires=0")
    error = refused(request, now=NOW + 0.1)
    assert (error.code, error.message) == ("AccessDenied", "Request has expired")


def test_a_presigned_url_lives_longer_than_the_skew_that_headers_are_allowed() -> None:
    week_s = 7 * 24 * 3600
    request = Request().presigned(expires_s=week_s)
    assert request.verified(now=NOW + week_s).access_key == CREDENTIALS.access_key


def test_a_presigned_url_of_the_future_is_not_yet_valid() -> None:
    error = refused(Request().presigned(now=NOW + 901))
    assert (error.code, error.message) == ("AccessDenied", "Request is not yet valid")
    assert Request().presigned(now=NOW + 900).verified().access_key


def test_a_presigned_url_of_version_two_is_refused() -> None:
    request = Request(query="AWSAccessKeyId=AKIA&Expires=1&Signature=abc")
    assert refused(request).code == "InvalidRequest"
