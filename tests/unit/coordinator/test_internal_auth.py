"""Internal HTTP is taken from holders of the key only, once, and answered so that they can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.core.internal_auth import (
    NotAuthentic,
    ReplayWindow,
    TimestampRefused,
    sign,
    sign_answer,
    verify,
    verify_answer,
)
from octad.sharding.limits import REQUEST_SKEW_MS_MAX

KEY = b"k" * 32
NOW_MS = 1_800_000_000_000
NONCE = bytes(range(16))


def signed(nonce: bytes = NONCE, at_ms: int = NOW_MS) -> str:
    return sign(KEY, "POST", "/a?b", b"body", at_ms, nonce)


def check(authorization: str | None, window: ReplayWindow, now_ms: int = NOW_MS) -> None:
    verify(KEY, "POST", "/a?b", b"body", authorization, window, now_ms)


def test_the_header_is_byte_exact() -> None:
    assert signed() == (
        "octad-hmac-sha256 1800000000000 000102030405060708090a0b0c0d0e0f "
        "dca465483faac7d9102deeed8fbf8794475430af0dee59d28480618d6d4e3b06"
    )


def test_a_signed_request_is_taken_once() -> None:
    window = ReplayWindow()
    check(signed(), window)
    with pytest.raises(NotAuthentic, match="sent before"):
        check(signed(), window)
    check(signed(bytes(16)), window)


@pytest.mark.parametrize(
    ("key", "method", "path", "body"),
    [
        (b"x" * 32, "POST", "/a?b", b"body"),
        (KEY, "PUT", "/a?b", b"body"),
        (KEY, "POST", "/a?c", b"body"),
        (KEY, "POST", "/a?b", b"bodY"),
    ],
)
def test_a_request_changed_anywhere_is_refused(
    key: bytes, method: str, path: str, body: bytes
) -> None:
    window = ReplayWindow()
    with pytest.raises(NotAuthentic, match="signature is wrong"):
        verify(key, method, path, body, signed(), window, NOW_MS)
    assert len(window) == 0, "a refused request leaves nothing behind"


@given(position=st.integers(0, 200), character=st.characters())
def test_a_header_changed_anywhere_is_refused(position: int, character: str) -> None:
    header = signed()
    position %= len(header)
    changed = header[:position] + character + header[position + 1 :]
    if changed != header:
        with pytest.raises(NotAuthentic):
            check(changed, ReplayWindow())


@given(st.text())
def test_any_other_header_is_refused_and_nothing_breaks(header: str) -> None:
    with pytest.raises(NotAuthentic):
        check(header, ReplayWindow())


def test_an_unsigned_request_is_refused() -> None:
    with pytest.raises(NotAuthentic, match="not signed"):
        check(None, ReplayWindow())


@pytest.mark.parametrize("distance_ms", [-REQUEST_SKEW_MS_MAX - 1, REQUEST_SKEW_MS_MAX + 1])
def test_a_refused_timestamp_comes_with_one_that_will_do(distance_ms: int) -> None:
    window = ReplayWindow()
    with pytest.raises(TimestampRefused) as refused:
        check(signed(at_ms=NOW_MS + distance_ms), window)
    check(signed(at_ms=refused.value.now_ms), window)


def test_what_the_window_forgot_for_lack_of_room_cannot_come_back() -> None:
    window = ReplayWindow(nonces_max=2)
    requests = [signed(bytes([number] * 16), NOW_MS + number) for number in range(3)]
    for request in requests:
        check(request, window)
    assert len(window) == 2
    for request in requests:
        with pytest.raises(NotAuthentic):
            check(request, window)
    with pytest.raises(TimestampRefused) as refused:
        check(signed(b"another one here", NOW_MS), window)
    check(signed(b"another one here", refused.value.now_ms), window)


def test_what_the_window_forgot_for_its_age_cannot_come_back_even_when_time_does() -> None:
    window = ReplayWindow()
    check(signed(), window)
    later_ms = NOW_MS + REQUEST_SKEW_MS_MAX + 1
    check(signed(bytes(16), later_ms), window, later_ms)
    assert len(window) == 1
    with pytest.raises(TimestampRefused):
        check(signed(), window)


def test_a_restarted_server_refuses_what_was_signed_before_its_start() -> None:
    with pytest.raises(TimestampRefused):
        check(signed(), ReplayWindow(floor_ms=NOW_MS))


def test_an_answer_belongs_to_its_request_status_and_body() -> None:
    mac = sign_answer(KEY, signed(), 200, b"yes")
    verify_answer(KEY, signed(), 200, b"yes", mac)
    for request, status, body, given_mac in [
        (signed(bytes(16)), 200, b"yes", mac),
        (signed(), 409, b"yes", mac),
        (signed(), 200, b"no", mac),
        (signed(), 200, b"yes", mac[:-1]),
        (signed(), 200, b"yes", "\xff"),
        (signed(), 200, b"yes", None),
    ]:
        with pytest.raises(NotAuthentic):
            verify_answer(KEY, request, status, body, given_mac)
