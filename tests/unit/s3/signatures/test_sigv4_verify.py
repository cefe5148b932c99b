"""One test per sentence of how S3 judges a signature; and what must never get through.

In one file, past 500 lines, so that the sentences can be read against the document in its order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tests.unit.s3.signatures.signed_request import CREDENTIALS, HOST, NOW, REGION, Request

from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    PayloadMode,
    canonical_request,
    scope_of,
    signature_of,
    signing_key,
    string_to_sign,
)
from octad.client.s3.sigv4_claim import SigV4Error
from octad.client.s3.sigv4_verify import verify_request

CONTENT_SHA256 = (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
)
REFUSED_CONTENT_SHA256 = (
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
    "unsigned-payload",
    EMPTY_SHA256[:-1],
    "",
)
FORGER = Credentials(CREDENTIALS.access_key, "not the secret of that key")
STRANGER = Credentials("AKIANOBODY", "any secret")


def refused(request: Request, *, now: float = NOW, region: str = REGION) -> SigV4Error:
    with pytest.raises(SigV4Error) as caught:
        request.verified(now=now, region=region)
    return caught.value


def with_authorization(request: Request, old: str, new: str) -> Request:
    value = request.headers["authorization"]
    assert old in value
    return request.having(authorization=value.replace(old, new))


# Who is it?


@pytest.mark.parametrize("content_sha256", CONTENT_SHA256)
def test_a_signed_header_is_accepted_with_every_kind_of_body(content_sha256: str) -> None:
    verified = Request("PUT").signed(content_sha256=content_sha256).verified()
    assert verified.access_key == CREDENTIALS.access_key
    assert verified.content_sha256 == content_sha256
    assert verified.payload_mode is (
        PayloadMode.SIGNED if content_sha256 == EMPTY_SHA256 else PayloadMode(content_sha256)
    )
    assert not verified.presigned


def test_the_seed_of_the_chunks_is_what_the_client_signed_with() -> None:
    request = Request("PUT").signed(content_sha256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    seed = request.verified().seed
    assert request.headers["authorization"].endswith(f"Signature={seed.signature}")
    assert seed.scope == "20130524/us-east-1/s3/aws4_request"
    assert seed.timestamp == "20130524T000000Z"
    assert seed.signing_key == signing_key(CREDENTIALS.secret_key, "20130524", REGION)


@pytest.mark.parametrize("content_sha256", CONTENT_SHA256 + REFUSED_CONTENT_SHA256)
@pytest.mark.parametrize("authentication", ["header", "query", "none", "both"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
def test_no_forged_request_gets_through(
    method: str, authentication: str, content_sha256: str
) -> None:
    body = {"x-amz-content-sha256": content_sha256}
    plain = Request(method, headers={"host": HOST, **body})
    in_header = Request(method).signed(content_sha256=content_sha256, credentials=FORGER)
    forged = {
        "none": plain,
        "header": in_header,
        "query": plain.presigned(credentials=FORGER),
        "both": dataclasses.replace(plain.presigned(credentials=FORGER), headers=in_header.headers),
    }[authentication]
    error = refused(forged)
    if authentication in ("header", "query"):
        assert (error.code, error.http_status) == ("SignatureDoesNotMatch", 403)
    elif authentication == "none":
        assert (error.code, error.http_status) == ("AccessDenied", 403)
    else:
        assert (error.code, error.http_status) == ("InvalidArgument", 400)


def test_a_request_without_any_credential_is_denied() -> None:
    assert refused(Request()).code == "AccessDenied"


@pytest.mark.parametrize("value", ["", " ", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "x" * 9000])
def test_an_empty_or_strange_authorization_header_is_no_permission(value: str) -> None:
    assert refused(Request().signed().having(authorization=value)).http_status == 400


def test_an_unknown_access_key_is_named_as_such() -> None:
    for request in (
        Request().signed(credentials=STRANGER),
        Request().presigned(credentials=STRANGER),
    ):
        error = refused(request)
        assert (error.code, error.http_status) == ("InvalidAccessKeyId", 403)


def test_a_disabled_key_is_answered_like_an_unknown_one() -> None:
    def nobody(access_key: str) -> str | None:
        return None

    request = Request().signed()
    with pytest.raises(SigV4Error) as caught:
        verify_request(
            "GET", request.path, "", request.headers, now=NOW, region=REGION, secret_of=nobody
        )
    assert caught.value.code == "InvalidAccessKeyId"


def test_a_wrong_signature_is_answered_with_what_the_server_signed() -> None:
    error = refused(Request(query="a=1").signed(credentials=FORGER))
    assert (error.code, error.http_status) == ("SignatureDoesNotMatch", 403)
    assert error.fields["CanonicalRequest"].startswith(f"GET\n/test.txt\na=1\nhost:{HOST}\n")
    assert error.fields["StringToSign"].startswith("AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/")
    assert error.fields["AWSAccessKeyId"] == CREDENTIALS.access_key
    assert len(error.fields["SignatureProvided"]) == 64


def test_a_signature_that_is_not_ascii_is_wrong_and_nothing_worse() -> None:
    request = Request().signed()
    value = request.headers["authorization"][:-1] + "é"
    assert refused(request.having(authorization=value)).code == "SignatureDoesNotMatch"


def test_no_error_and_no_repr_shows_a_secret() -> None:
    error = refused(Request().signed(credentials=FORGER))
    verified = Request().signed().verified()
    shown = f"{error!r}{dict(error.fields)}{verified!r}{CREDENTIALS!r}"
    assert CREDENTIALS.secret_key not in shown
    assert repr(verified.seed.signing_key) not in shown


# What is signed?


def changed(what: str) -> Callable[[Request], Request]:
    def change(request: Request) -> Request:
        match what:
            case "method":
                return dataclasses.replace(request, method="DELETE")
            case "path":
                return dataclasses.replace(request, path="/other.txt")
            case "query":
                return dataclasses.replace(request, query=f"{request.query}&acl=")
            case "signed header":
                return request.having(range="bytes=0-1")
            case "host":
                return request.having(host="other.example")
            case _:
                raise AssertionError(what)

    return change


@pytest.mark.parametrize("what", ["method", "path", "query", "signed header", "host"])
@pytest.mark.parametrize("presigned", [False, True])
def test_a_change_of_any_signed_part_breaks_the_signature(what: str, presigned: bool) -> None:
    request = Request(query="partNumber=1", headers={"host": HOST, "range": "bytes=0-9"})
    signed = request.presigned() if presigned else request.signed()
    assert signed.verified().access_key == CREDENTIALS.access_key
    assert refused(changed(what)(signed)).code == "SignatureDoesNotMatch"


def test_the_payload_hash_is_signed() -> None:
    request = Request("PUT").signed(content_sha256=EMPTY_SHA256)
    spoiled = request.having(x_amz_content_sha256=UNSIGNED_PAYLOAD)
    assert refused(spoiled).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("presigned", [False, True])
def test_an_unsigned_amz_header_is_refused(presigned: bool) -> None:
    request = Request().presigned() if presigned else Request().signed()
    error = refused(request.having(x_amz_acl="public-read"))
    assert (error.code, error.http_status) == ("AccessDenied", 403)
    assert error.message == "There were headers present in the request which were not signed"
    assert error.fields["HeadersNotSigned"] == "x-amz-acl"


def test_an_unsigned_other_header_is_none_of_the_signatures_business() -> None:
    request = Request().signed().having(user_agent="curl", x_amzn_trace_id="1")
    assert request.verified().access_key == CREDENTIALS.access_key


def sign_only(names: tuple[str, ...], headers: dict[str, str]) -> Request:
    """A request whose signature covers `names` and nothing else."""
    added = {"x-amz-date": "20130524T000000Z", "x-amz-content-sha256": UNSIGNED_PAYLOAD}
    all_headers = {**headers, **added}
    scope = scope_of("20130524", REGION)
    text = canonical_request("GET", "/test.txt", "", names, all_headers, UNSIGNED_PAYLOAD)
    key = signing_key(CREDENTIALS.secret_key, "20130524", REGION)
    signature = signature_of(key, string_to_sign("20130524T000000Z", scope, text))
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={CREDENTIALS.access_key}/{scope},"
        f"SignedHeaders={';'.join(names)},Signature={signature}"
    )
    return Request(headers={**all_headers, "authorization": authorization})


def test_the_host_has_to_be_signed() -> None:
    error = refused(sign_only(("x-amz-content-sha256", "x-amz-date"), {"host": HOST}))
    assert (error.code, error.fields["HeadersNotSigned"]) == ("AccessDenied", "host")


def test_a_line_break_in_a_signed_value_is_refused() -> None:
    names = ("host", "x-amz-content-sha256", "x-amz-date")
    error = refused(sign_only(names, {"host": f"{HOST}\nx-other:1"}))
    assert error.code == "AccessDenied"


def test_a_signed_header_that_is_missing_breaks_the_signature() -> None:
    request = Request(headers={"host": HOST, "range": "bytes=0-9"}).signed()
    assert refused(request.without("range")).code == "SignatureDoesNotMatch"


def test_spaces_around_and_within_a_value_are_collapsed() -> None:
    request = Request(headers={"host": HOST, "x-amz-meta-a": "one two"}).signed()
    for value in (" one two", "one  two", "one   two  ", "one\ttwo"):
        assert request.having(x_amz_meta_a=value).verified().access_key
    assert refused(request.having(x_amz_meta_a="onetwo")).code == "SignatureDoesNotMatch"


def test_the_order_and_spelling_of_the_query_do_not_matter() -> None:
    request = Request(query="a=1&b=%20&b=%2F&c=").signed()
    for query in ("c&b=%2f&b=%20&a=1", "b=+&a=%31&b=/&c=", "&a=1&&b=%20&b=%2F&c"):
        assert dataclasses.replace(request, query=query).verified().access_key
    for query in ("a=1&b=%20&b=%2F", "a=1&b=%252F&b=%20&c=", "a=2&b=%20&b=%2F&c="):
        error = refused(dataclasses.replace(request, query=query))
        assert error.code == "SignatureDoesNotMatch"


def test_a_name_is_sorted_before_its_value() -> None:
    request = Request(query="a-b=1&a=2").signed()
    assert (
        "\na=2&a-b=1\n"
        in refused(with_authorization(request, "Signature=", "Signature=0")).fields[
            "CanonicalRequest"
        ]
    )
    assert request.verified().access_key == CREDENTIALS.access_key


@pytest.mark.parametrize(
    ("signed", "sent"),
    [
        ("/b/a%20b", "/b/a b"),
        ("/b/a%2Bb", "/b/a+b"),
        ("/b/%C3%A9", "/b/%c3%a9"),
        ("/b/%C3%A9", "/b/é"),
        ("/b/a", "/b/%61"),
        ("/b/~a-_.", "/b/%7Ea%2D%5F%2E"),
        ("/b/a/b", "/b/a%2Fb"),
    ],
)
def test_every_spelling_of_a_path_has_one_canonical_form(signed: str, sent: str) -> None:
    request = Request(path=signed).signed()
    assert dataclasses.replace(request, path=sent).verified().access_key == CREDENTIALS.access_key


@pytest.mark.parametrize("path", ["/b//a", "/b/./a", "/b/../a", "/b/a/", "/b/a+b", "/b/%2f", "/"])
def test_a_path_is_signed_as_it_is_sent_and_never_normalised(path: str) -> None:
    request = Request(path=path).signed()
    assert request.verified().access_key == CREDENTIALS.access_key


@pytest.mark.parametrize(
    ("signed", "sent"),
    [
        ("/b//a", "/b/a"),
        ("/b/./a", "/b/a"),
        ("/b/x/../a", "/b/a"),
        ("/b/a%2520b", "/b/a%20b"),
        ("/b/a%20b", "/b/a%2520b"),
        ("/b/a%20b", "/b/a+b"),
        ("/b/a%252Fb", "/b/a%2Fb"),
    ],
)
def test_a_signature_for_one_key_is_none_for_another(signed: str, sent: str) -> None:
    request = dataclasses.replace(Request(path=signed).signed(), path=sent)
    assert refused(request).code == "SignatureDoesNotMatch"


def test_a_path_whose_bytes_are_not_utf8_verifies() -> None:
    request = Request(path="/b/%FF").signed()
    sent = b"/b/\xff".decode("utf-8", "surrogateescape")
    assert dataclasses.replace(request, path=sent).verified().access_key


# When?


@pytest.mark.parametrize("skew_s", [-901, 901])
def test_a_clock_that_is_more_than_a_quarter_of_an_hour_off_is_refused(skew_s: int) -> None:
    error = refused(Request().signed(), now=NOW + skew_s)
    assert (error.code, error.http_status) == ("RequestTimeTooSkewed", 403)
    assert error.fields["RequestTime"] == "20130524T000000Z"
    assert error.fields["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("skew_s", [-900, 900])
def test_a_quarter_of_an_hour_is_allowed(skew_s: int) -> None:
    assert Request().signed().verified(now=NOW + skew_s).access_key == CREDENTIALS.access_key


@pytest.mark.parametrize("presigned", [False, True])
def test_the_date_is_checked_where_only_x_amz_date_is_given(presigned: bool) -> None:
    old = NOW - 8 * 24 * 3600
    request = Request().presigned(now=old) if presigned else Request().signed(now=old)
    assert "date" not in request.headers
    assert refused(request).http_status == 403


def test_a_date_is_required() -> None:
    error = refused(Request().signed().without("x-amz-date"))
    assert (error.code, error.http_status) == ("AccessDenied", 403)
    assert "Date or x-amz-date" in error.message


@pytest.mark.parametrize(
    "date", ["", "now", "20130524", "20130524T000000", "20131324T000000Z", "２0130524T000000Z"]
)
def test_a_date_that_is_none_is_refused(date: str) -> None:
    assert refused(Request().signed().having(x_amz_date=date)).code == "AccessDenied"


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 24 May 2013 00:00:00 GMT",
        "Fri, 24 May 2013 00:00:00 -0000",
        "20130524T000000Z",
    ],
)
def test_the_date_header_serves_where_x_amz_date_is_missing(date: str) -> None:
    names = ("date", "host", "x-amz-content-sha256")
    request = sign_only(names, {"host": HOST, "date": date}).without("x-amz-date")
    assert request.verified().access_key == CREDENTIALS.access_key
    assert refused(request, now=NOW + 901).code == "RequestTimeTooSkewed"


def test_the_day_of_the_scope_is_the_day_of_the_date() -> None:
    request = with_authorization(Request().signed(), "/20130524/", "/20130523/")
    error = refused(request)
    assert (error.code, error.http_status) == ("AuthorizationHeaderMalformed", 400)
    assert "not the same as X-Amz-Date" in error.message


# Where?


def test_a_wrong_region_is_answered_with_the_right_one() -> None:
    error = refused(Request().signed(region="eu-west-1"))
    assert (error.code, error.http_status) == ("AuthorizationHeaderMalformed", 400)
    assert error.message == (
        "The authorization header is malformed; the region 'eu-west-1' is wrong; expecting "
        "'us-east-1'"
    )
    assert error.fields["Region"] == "us-east-1"
    error = refused(Request().presigned(region="eu-west-1"))
    assert (error.code, error.http_status) == ("AuthorizationQueryParametersError", 400)
    assert error.fields["Region"] == "us-east-1"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/s3/aws4_request", "/ec2/aws4_request"),
        ("/s3/aws4_request", "/s3/aws4_reques"),
        ("/s3/aws4_request", "/s3"),
        ("/20130524/", "/2013-05-24/"),
        ("Credential=AKIAIOSFODNN7EXAMPLE", "Credential="),
        ("Credential=", "Credentials="),
        ("SignedHeaders=", "Headers="),
        ("SignedHeaders=host;x-amz-content-sha256;x-amz-date", "SignedHeaders="),
        ("Signature=", "Signed="),
    ],
)
def test_a_malformed_authorization_header_is_named_as_such(old: str, new: str) -> None:
    error = refused(with_authorization(Request().signed(), old, new))
    assert (error.code, error.http_status) == ("AuthorizationHeaderMalformed", 400)


def test_the_fields_of_the_authorization_header_may_come_in_any_order() -> None:
    request = Request().signed()
    scheme, _, fields = request.headers["authorization"].partition(" ")
    reversed_fields = ",".join(reversed(fields.split(", ")))
    assert request.having(authorization=f"{scheme} {reversed_fields}").verified().access_key


@pytest.mark.parametrize(
    ("scheme", "code"),
    [
        ("AWS AKIA:signature", "InvalidRequest"),
        ("AWS4-HMAC-SHA512 Credential=a", "InvalidRequest"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", "NotImplemented"),
        ("Bearer abc", "InvalidArgument"),
        ("Basic abc", "InvalidArgument"),
    ],
)
def test_another_scheme_is_refused(scheme: str, code: str) -> None:
    assert refused(Request().having(authorization=scheme)).code == code


def test_two_ways_of_authentication_at_once_are_refused() -> None:
    both = dataclasses.replace(Request().presigned(), headers=Request().signed().headers)
    error = refused(both)
    assert (error.code, error.http_status) == ("InvalidArgument", 400)
    assert error.message.startswith("Only one auth mechanism allowed")


# The body's hash.


def test_the_content_sha256_header_is_required() -> None:
    names = ("host", "x-amz-date")
    request = sign_only(names, {"host": HOST}).without("x-amz-content-sha256")
    error = refused(request)
    assert (error.code, error.http_status) == ("InvalidRequest", 400)
    assert error.message == "Missing required header for this request: x-amz-content-sha256"


@pytest.mark.parametrize("content_sha256", REFUSED_CONTENT_SHA256)
def test_an_unknown_kind_of_body_is_refused_though_rightly_signed(content_sha256: str) -> None:
    error = refused(Request("PUT").signed(content_sha256=content_sha256))
    ecdsa = "ECDSA" in content_sha256
    assert (error.code, error.http_status) == (
        ("NotImplemented", 501) if ecdsa else ("InvalidArgument", 400)
    )


# Presigned URLs.


def test_a_longer_expiry_than_was_signed_breaks_the_signature() -> None:
    request = Request().presigned(expires_s=60)
    request.query = request.query.replace("X-Amz-Expires=60", "X-Amz-Expires=600")
    assert refused(request, now=NOW + 100).code == "SignatureDoesNotMatch"


def test_every_refusal_is_an_error_that_clients_know() -> None:
    assert issubclass(SigV4Error, S3Error)
