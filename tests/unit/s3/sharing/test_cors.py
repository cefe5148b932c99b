"""Cross-origin rules: the first that fits decides, and nothing that no rule says is told."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite, RawAnswer

from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import OPEN, CorsRule
from octad.storage_node.s3.protocol.cors import (
    HEADERS_ASKED_MAX,
    RULES_MAX,
    check_rules,
    cors_lines,
    preflight_lines,
)

ORIGIN = "https://app.example.org"
RULES: list[Any] = [
    {
        "ID": "app",
        "AllowedMethods": ["GET", "PUT"],
        "AllowedOrigins": ["https://*.example.org"],
        "AllowedHeaders": ["x-amz-*", "Content-Type"],
        "ExposeHeaders": ["ETag", "x-amz-meta-a"],
        "MaxAgeSeconds": 3000,
    },
    {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]},
]


def rule(origins: str = "*", methods: str = "GET", headers: str = "", **more: Any) -> CorsRule:
    return CorsRule(tuple(origins.split()), tuple(methods.split()), tuple(headers.split()), **more)


@pytest.mark.parametrize(
    ("pattern", "origin", "fits"),
    [
        ("*", "anything", True),
        ("http://a", "http://a", True),
        ("http://a", "http://a.b", False),
        ("http://a", "http://A", False),
        ("http://*.a", "http://b.a", True),
        ("http://*.a", "http://b.c.a", True),
        ("http://*.a", "http://.a.b", False),
        ("start*end", "startend", True),
        ("start*end", "start1end", True),
        ("start*end", "0startend", False),
        ("aba*aba", "aba", False),  # Neither half may use what the other has used.
        ("aba*aba", "ababa", False),
        ("a.c", "abc", False),
    ],
)
def test_an_origin_fits_with_one_wildcard_at_most(pattern: str, origin: str, fits: bool) -> None:
    lines = cors_lines([rule(pattern)], "GET", {"origin": origin})
    assert ("Access-Control-Allow-Origin" in lines) == fits
    assert "Vary: Origin" in lines  # Also what a page is not told differs by its origin.


def test_without_rules_or_an_origin_nothing_is_said() -> None:
    assert cors_lines([], "GET", {"origin": ORIGIN}) == ""
    assert cors_lines([rule()], "GET", {}) == ""


def test_the_first_rule_that_fits_decides() -> None:
    rules = [rule("http://a", "PUT", max_age_s=1), rule("*", "GET PUT", max_age_s=2)]
    for method, age in (("PUT", 1), ("GET", 2)):
        lines = cors_lines(rules, method, {"origin": "http://a"})
        assert f"Access-Control-Max-Age: {age}\r\n" in lines
    assert "credentials" not in cors_lines(rules, "GET", {"origin": "http://a"}).lower()


@pytest.mark.parametrize(
    ("allowed", "asked", "fits"),
    [
        ("", "", True),
        ("", "x-a", False),
        ("*", "x-a, x-b", True),
        ("x-amz-*", "X-Amz-Date,x-amz-content-sha256", True),
        ("x-amz-*", "x-amz-date, content-type", False),
        ("Content-Type", "content-type", True),
    ],
)
def test_a_preflight_asks_for_headers_and_gets_all_or_none(
    allowed: str, asked: str, fits: bool
) -> None:
    headers = {
        "origin": ORIGIN,
        "access-control-request-method": "GET",
        "access-control-request-headers": asked,
    }
    if fits:
        assert "Access-Control-Allow-Origin" in preflight_lines(
            [rule("*", "GET", allowed)], "/b", headers
        )
    else:
        with pytest.raises(S3Error, match="AccessForbidden"):
            preflight_lines([rule("*", "GET", allowed)], "/b", headers)


@pytest.mark.parametrize(
    "bad",
    [
        rule("http://*.*"),
        rule(headers="x-*-*"),
        rule(methods="PATCH"),
        rule(methods="get"),
        rule(exposed=("x-*",)),
        rule(exposed=("x-a\r\nset-cookie: a=b",)),
        rule(exposed=("",)),
    ],
)
def test_rules_that_mean_nothing_are_refused(bad: CorsRule) -> None:
    with pytest.raises(S3Error, match="InvalidRequest"):
        check_rules([rule(), bad])


def test_there_are_100_rules_at_most() -> None:
    check_rules([rule()] * RULES_MAX)
    with pytest.raises(S3Error, match="InvalidRequest"):
        check_rules([rule()] * (RULES_MAX + 1))


def opened(site: FrontDoorSite, name: str) -> str:
    site.run(site.store.create_bucket(name, "alice", settings=OPEN))
    client = site.client()
    client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": RULES})
    client.put_object(Bucket=name, Key="key", Body=b"data", ACL="public-read")
    return name


def asked(site: FrontDoorSite, method: str, path: str, **headers: str) -> RawAnswer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.raw(method, path, {"host": site.host, "content-length": "0", **sent}, b"")


def test_the_rules_come_back_as_they_were_given(site: FrontDoorSite, bucket: str) -> None:
    client = site.client()
    with pytest.raises(client.exceptions.ClientError, match="NoSuchCORSConfiguration"):
        client.get_bucket_cors(Bucket=bucket)
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    assert client.get_bucket_cors(Bucket=bucket)["CORSRules"] == RULES
    client.delete_bucket_cors(Bucket=bucket)
    with pytest.raises(client.exceptions.ClientError, match="NoSuchCORSConfiguration"):
        client.get_bucket_cors(Bucket=bucket)


def test_a_browser_that_asks_beforehand_is_told_without_credentials(site: FrontDoorSite) -> None:
    name = opened(site, f"preflight-{site.all_through_aiohttp}".lower())
    asks = {"origin": ORIGIN, "access_control_request_method": "PUT"}
    answer = asked(
        site,
        "OPTIONS",
        f"/{name}/new?X-Amz-Signature=whatever",
        access_control_request_headers="content-type, x-amz-date",
        **asks,
    )
    assert (answer.status, answer.body) == (200, b"")
    told = {n: v for n, v in answer.headers.items() if n.startswith(("access-", "vary"))}
    assert told == {
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "content-type, x-amz-date",
        "access-control-expose-headers": "ETag, x-amz-meta-a",
        "access-control-max-age": "3000",
        "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }
    refused = asked(site, "OPTIONS", f"/{name}/new", **{**asks, "origin": "https://evil"})
    assert (refused.status, refused.code) == (403, "AccessForbidden")
    headers = asked(
        site, "OPTIONS", f"/{name}/new", **{**asks, "access_control_request_headers": "x-other"}
    )
    assert headers.status == 403
    for answer in (refused, headers):
        assert not [told for told in answer.headers if told.startswith("access-control")]


def test_answers_carry_what_a_rule_says_and_refusals_too(site: FrontDoorSite) -> None:
    name = opened(site, f"actual-{site.all_through_aiohttp}".lower())
    for path, status in ((f"/{name}/key", 200), (f"/{name}/absent", 403), (f"/{name}?acl", 403)):
        answer = asked(site, "GET", path, origin=ORIGIN)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        other = asked(site, "GET", path, origin="null")
        assert other.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in other.headers
        assert "access-control-allow-origin" not in asked(site, "GET", path).headers
    forged = site.request("GET", f"/{name}/key", headers={"origin": ORIGIN}, clock_offset_s=1e6)
    assert forged.status == 403
    assert forged.headers["access-control-allow-origin"] == ORIGIN
    denied = asked(site, "DELETE", f"/{name}/key", origin=ORIGIN)
    assert "access-control-allow-origin" not in denied.headers
    assert site.request("GET", f"/{name}/key", headers={"origin": ORIGIN}, credentials=ALICE).body


def test_other_buckets_say_nothing(site: FrontDoorSite, bucket: str) -> None:
    for path in (f"/{bucket}", "/no-such-bucket", "/Bad_Name", "/%zz", "/"):
        answer = asked(site, "GET", path, origin=ORIGIN)
        assert not [name for name in answer.headers if name.startswith(("access-control", "vary"))]


def test_a_preflight_asks_for_so_many_headers_and_no_more() -> None:
    rules = [rule("*", "GET", "x*y *")]
    for count, refused in ((HEADERS_ASKED_MAX, False), (HEADERS_ASKED_MAX + 1, True)):
        headers = {
            "origin": ORIGIN,
            "access-control-request-method": "GET",
            "access-control-request-headers": ",".join(["a"] * count),
        }
        if not refused:
            assert "Access-Control-Allow-Headers: a" in preflight_lines(rules, "/b/k", headers)
            continue
        with pytest.raises(S3Error) as refusal:
            preflight_lines(rules, "/b/k", headers)
        assert refusal.value.code == "BadRequest"
