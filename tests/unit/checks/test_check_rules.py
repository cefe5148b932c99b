"""Who may be checked, what an answer means, and when it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.coordinator.checks.check_rules import (
    address_in,
    first_allowed,
    http_request,
    is_success,
    parse_networks,
    refusal_of,
    verdict,
)

NETWORKS = parse_networks("10.0.0.0/8, fd00::/8")


@pytest.mark.parametrize(
    ("text", "connected_to"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("fd00::1", "fd00::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", None),
        ("::ffff:127.0.0.1", None),
        ("::1", None),
        ("169.254.169.254", None),
        ("0.0.0.0", None),
        ("fe80::1%eth0", None),
        ("web.lan", None),
        ("", None),
    ],
)
def test_only_addresses_of_the_named_networks_are_connected_to(
    text: str, connected_to: str | None
) -> None:
    assert address_in(text, NETWORKS) == connected_to


@given(st.ip_addresses())
def test_without_networks_no_address_is_allowed(address: object) -> None:
    assert address_in(str(address), ()) is None


def test_of_a_name_with_many_addresses_the_first_allowed_one_is_taken() -> None:
    assert first_allowed(["127.0.0.1", "10.0.0.7", "10.0.0.8"], iter(NETWORKS)) == "10.0.0.7"
    assert first_allowed(["127.0.0.1", "192.168.0.1"], NETWORKS) is None


def test_what_cannot_be_checked_is_refused_with_the_reason() -> None:
    assert "start the coordinators with --check-networks" in (refusal_of((), "10.0.0.1") or "")
    assert "127.0.0.1 is in none" in (refusal_of(NETWORKS, "127.0.0.1") or "")
    assert refusal_of(NETWORKS, "10.0.0.1") is None
    assert refusal_of(NETWORKS, "web.lan") is None, "looked up when it is checked"


@pytest.mark.parametrize(
    ("line", "success"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.0 204 \r\n", True),
        (b"HTTP/1.1 299\r\n", True),
        (b"HTTP/1.1 301 Moved\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n", False),
        (b"HTTP/1.1 503 no\r\n", False),
        (b"HTTP/1.1 2000 OK\r\n", False),
        (b"SSH-2.0-OpenSSH 200 \r\n", False),
        (b"", False),
    ],
)
def test_200_to_299_passes_and_a_redirect_does_not(line: bytes, success: bool) -> None:
    assert is_success(line) == success


def test_a_request_has_no_more_than_host_and_path_of_the_registration() -> None:
    assert http_request("web:80", "/ok?x=1").startswith(b"GET /ok?x=1 HTTP/1.1\r\nHost: web:80\r\n")


def test_one_success_passes_and_two_failures_fail() -> None:
    assert [verdict(None, failures) for failures in (0, 1, 2)] == [True, None, False]
    assert [verdict(True, failures) for failures in (0, 1, 2)] == [True, True, False]
    assert [verdict(False, failures) for failures in (0, 1)] == [True, False]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "all", "10.0.0.0/33", "::1/64"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_networks(text)
