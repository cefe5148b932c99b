"""Internal HTTP is taken from holders of the key only, once, and answered so that they can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.cluster import internal_auth
from octad.client.cluster.internal_auth import (
    OLD_SCHEME,
    REQUEST_SKEW_MS_MAX,
    UNKNOWN_AUDIENCE,
    NotAuthentic,
    ReplayWindow,
    SignAgain,
    sign,
    sign_answer,
    verify,
    verify_answer,
)

KEY = b"k" * 32
NOW_MS = 1_800_000_000_000
NONCE = bytes(range(16))
LIFE, OTHER_LIFE = "5d41402abc4b2a76", "1111111111111111"


def signed(nonce: bytes = NONCE, at_ms: int = NOW_MS, audience: str = LIFE) -> str:
    return sign(KEY, audience, "POST", "/a?b", b"body", at_ms, nonce)


def window_of(life: str = LIFE) -> ReplayWindow:
    return ReplayWindow(life)


def check(authorization: str | None, window: ReplayWindow, now_ms: int = NOW_MS) -> None:
    verify(KEY, "POST", "/a?b", b"body", authorization, window, now_ms)


def test_the_header_is_byte_exact() -> None:
    assert signed() == (
        "octad-hmac-sha256-2 5d41402abc4b2a76 1800000000000 000102030405060708090a0b0c0d0e0f "
        "2acf3411bfde7804728ad6392e1e80489f96186cd7594da44608dbdbb78583af"
    )


@pytest.mark.parametrize(
    ("timestamp", "nonce", "says"),
    [
        ("now", NONCE.hex(), "whole milliseconds"),
        ("1800000000.5", NONCE.hex(), "whole milliseconds"),
        ("", NONCE.hex(), "whole milliseconds"),
        ("9" * 4000, NONCE.hex(), "whole milliseconds"),
        (str(NOW_MS), "0" * 4000, "16 random bytes in hex"),
        (str(NOW_MS), "", "16 random bytes in hex"),
    ],
)
def test_a_holder_of_the_key_who_signs_in_another_form_is_told_so(
    timestamp: str, nonce: str, says: str
) -> None:
    mac = internal_auth._request_mac(KEY, LIFE, "POST", "/a?b", b"body", timestamp, nonce)
    with pytest.raises(NotAuthentic, match=says):
        check(f"octad-hmac-sha256-2 {LIFE} {timestamp} {nonce} {mac}", window_of())


def test_a_signed_request_is_taken_once() -> None:
    window = window_of()
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
    window = window_of()
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
            check(changed, window_of())


@given(st.text())
def test_any_other_header_is_refused_and_nothing_breaks(header: str) -> None:
    with pytest.raises(NotAuthentic):
        check(header, window_of())


def test_an_unsigned_request_is_refused() -> None:
    with pytest.raises(NotAuthentic, match="not signed"):
        check(None, window_of())


@pytest.mark.parametrize("distance_ms", [-REQUEST_SKEW_MS_MAX - 1, REQUEST_SKEW_MS_MAX + 1])
def test_a_refused_timestamp_comes_with_one_that_will_do(distance_ms: int) -> None:
    window = window_of()
    with pytest.raises(SignAgain) as refused:
        check(signed(at_ms=NOW_MS + distance_ms), window)
    check(signed(at_ms=refused.value.now_ms), window)


def test_what_the_window_forgot_for_lack_of_room_cannot_come_back() -> None:
    window = ReplayWindow(LIFE, nonces_max=2)
    requests = [signed(bytes([number] * 16), NOW_MS + number) for number in range(3)]
    for request in requests:
        check(request, window)
    assert len(window) == 2
    for request in requests:
        with pytest.raises(NotAuthentic):
            check(request, window)
    with pytest.raises(SignAgain) as refused:
        check(signed(b"another one here", NOW_MS), window)
    check(signed(b"another one here", refused.value.now_ms), window)


def test_what_the_window_forgot_for_its_age_cannot_come_back_even_when_time_does() -> None:
    window = window_of()
    check(signed(), window)
    later_ms = NOW_MS + REQUEST_SKEW_MS_MAX + 1
    check(signed(bytes(16), later_ms), window, later_ms)
    assert len(window) == 1
    with pytest.raises(SignAgain):
        check(signed(), window)


def test_what_was_signed_for_one_process_is_worth_nothing_at_another() -> None:
    """Another coordinator, or the same one after a restart, has seen none of the nonces."""
    check(signed(), window_of())
    for other in (window_of(OTHER_LIFE), window_of(OTHER_LIFE)):
        with pytest.raises(SignAgain) as refused:
            check(signed(), other)
        assert (refused.value.code, refused.value.audience) == ("audience", OTHER_LIFE)
        assert len(other) == 0


@pytest.mark.parametrize("audience", [UNKNOWN_AUDIENCE, OTHER_LIFE])
def test_whoever_signed_for_nobody_here_is_told_for_whom_and_when_at_once(audience: str) -> None:
    window = window_of()
    with pytest.raises(SignAgain) as refused:
        check(signed(audience=audience, at_ms=0), window)
    again = refused.value
    check(signed(audience=again.audience, at_ms=again.now_ms), window)


def test_a_stranger_is_not_told_whom_to_sign_for() -> None:
    """Only a holder of the key gets as far as that."""
    forged = signed(audience=OTHER_LIFE)[:-1] + "!"
    with pytest.raises(NotAuthentic) as refused:
        check(forged, window_of())
    assert not isinstance(refused.value, SignAgain)


def test_a_signature_that_names_no_process_is_refused_with_the_reason() -> None:
    """As octad made them before, whatever they were signed with."""
    old = f"{OLD_SCHEME} 1800000000000 {NONCE.hex()} {'d' * 64}"
    with pytest.raises(NotAuthentic, match=r"an older octad signed .* upgrade"):
        check(old, window_of())


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
