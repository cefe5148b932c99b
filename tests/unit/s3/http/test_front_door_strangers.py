"""Browsers, forms and TLS at the S3 port: told what this is, never a bare refusal or silence."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite, RawAnswer
from tests.unit.s3.raw_connection import Wire

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PREFLIGHT = {"origin": "https://example.org", "access-control-request-method": "PUT"}


def asked(
    site: FrontDoorSite, method: str, target: str, headers: dict[str, str], body: bytes = b""
) -> RawAnswer:
    """Without a signature."""
    sent = {"host": site.host, "content-length": str(len(body)), **headers}
    return site.raw(method, target, sent, body)


def test_a_browser_gets_a_plain_page(site: FrontDoorSite) -> None:
    answer = asked(site, "GET", "/", BROWSER)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-amz-request-id"]
    assert b"octad" in answer.body
    assert b"S3" in answer.body


def test_nobody_but_a_browser_at_the_root_gets_it(site: FrontDoorSite, bucket: str) -> None:
    for method, target, headers in (
        ("GET", "/", {"accept": "*/*"}),
        ("GET", f"/{bucket}", BROWSER),
        ("GET", "/?uploads", BROWSER),
        ("HEAD", "/", BROWSER),
        ("GET", "/", {**BROWSER, "authorization": "none"}),
    ):
        assert asked(site, method, target, headers).status in (400, 403)
    assert site.request("GET", "/", headers=BROWSER).headers["content-type"] == "application/xml"


def test_a_preflight_is_told_that_nothing_is_shared(site: FrontDoorSite, bucket: str) -> None:
    for target, kind in ((f"/{bucket}", "BUCKET"), (f"/{bucket}/key?X-Amz-Date=x", "OBJECT")):
        answer = asked(site, "OPTIONS", target, PREFLIGHT)
        assert (answer.status, answer.code) == (403, "AccessForbidden")
        assert "CORS" in answer.element("Message")
        assert (answer.element("Method"), answer.element("ResourceType")) == ("PUT", kind)
    absent = asked(site, "OPTIONS", "/no-such-bucket", PREFLIGHT)
    assert (absent.status, absent.code) == (403, "AccessForbidden")


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "https://example.org"}, {**PREFLIGHT, "access-control-request-method": "X"}],
)
def test_a_preflight_that_asks_for_nothing_is_told_what_it_lacks(
    site: FrontDoorSite, bucket: str, headers: dict[str, str]
) -> None:
    answer = asked(site, "OPTIONS", f"/{bucket}/key", headers)
    assert (answer.status, answer.code) == (400, "BadRequest")


def test_a_post_without_a_form_or_a_signature_is_refused(site: FrontDoorSite, bucket: str) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert asked(site, "POST", f"/{bucket}", {"content-type": "text/plain"}, b"x").code == (
        "AccessDenied"
    )
    assert asked(site, "POST", f"/{bucket}?delete", form, b"x").code == "AccessDenied"
    signed = site.request("POST", f"/{bucket}", body=b"x")
    assert (signed.status, signed.code) == (412, "PreconditionFailed")
    both = site.request("POST", f"/{bucket}", headers=form, body=b"--x\r\n")
    assert (both.status, both.code) == (400, "InvalidArgument")


def test_tls_on_the_plain_port_is_answered_at_once_and_in_words(
    site: FrontDoorSite, wire: Callable[[], Wire], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "octad.front_door")
    began = time.monotonic()
    for begin in (b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01 GET / HTTP/1.1\r\n\r\n"):
        client = wire()
        client.socket.sendall(begin)
        head = client.head()
        assert head.startswith(b"HTTP/1.1 400 ")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        assert b"http://" in client.body(length)
        assert client.is_closed()
    assert time.monotonic() - began < 5  # An idle connection would be left alone for a minute.
    assert len([line for line in caplog.messages if "TLS" in line]) <= 1


def test_a_client_of_tls_fails_at_once_on_a_plain_port() -> None:
    context = ssl.create_default_context()
    with (
        FrontDoorSite() as site,
        socket.create_connection(("127.0.0.1", site.door.port), timeout=5) as plain,
        pytest.raises(ssl.SSLError, match=r"WRONG_VERSION|record layer|HTTP_REQ"),
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


def test_that_byte_in_a_body_is_a_byte(site: FrontDoorSite, bucket: str) -> None:
    body = b"\x16\x03\x01" * 100_000
    assert site.request("PUT", f"/{bucket}/key", body=body).status == 200
    assert site.request("GET", f"/{bucket}/key").body == body
