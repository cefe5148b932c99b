"""Authentication of octad's internal HTTP: a request and its answer are signed with a cluster key.

    Authorization: octad-hmac-sha256 <timestamp, ms> <nonce, 32 hex digits> <mac, 64 hex digits>
    mac = HMAC-SHA256(key, lines of "request", method, target, sha256(body), timestamp, nonce)
    Octad-Answer-Mac = HMAC-SHA256(key, lines of "answer", Authorization, status, sha256(body))

The key is one that `JoinToken.key_for` derived for this one service, so a request to one service is
worth nothing at another. A request is taken once: its nonce is remembered for as long as its
timestamp would pass. An answer belongs to one request, so nobody else can give it.

Timestamps only bound how long nonces are kept, so no clock needs to be right. A server uses a time
that never goes back (the wall clock at its start plus the monotonic time since); when it refuses a
timestamp it says its own time in a signed answer, and the client signs again with that.
This file authenticates; it does not encrypt.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac

from octad.sharding.limits import REPLAY_NONCES_MAX, REQUEST_SKEW_MS_MAX

SCHEME = "octad-hmac-sha256"
AUTHORIZATION_HEADER = "Authorization"
ANSWER_MAC_HEADER = "Octad-Answer-Mac"
NONCE_BYTES = 16


class NotAuthentic(Exception):
    """The request (or the answer) was not made by a holder of the key, or was seen before."""


class TimestampRefused(NotAuthentic):
    """Signed with the key, but too early or too late; signing again with `now_ms` will do."""

    def __init__(self, timestamp_ms: int, now_ms: int) -> None:
        super().__init__(
            f"the request was signed {abs(now_ms - timestamp_ms) / 1000:.0f} s "
            f"{'before' if timestamp_ms < now_ms else 'after'} the time of this server"
        )
        self.timestamp_ms = timestamp_ms
        self.now_ms = now_ms


class ReplayWindow:
    """The nonces of requests taken so far, bounded in time and in number; fails closed.

    Whatever is forgotten raises `floor_ms`: what was signed at or before it is refused, so a
    forgotten request cannot come back. A restarted server starts with its own time as the floor.
    """

    def __init__(self, floor_ms: int = 0, *, nonces_max: int = REPLAY_NONCES_MAX) -> None:
        self.floor_ms = floor_ms
        self._nonces_max = nonces_max
        self._seen: set[str] = set()
        self._oldest_first: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, nonce: str, timestamp_ms: int, now_ms: int) -> None:
        """Take a request once; raises NotAuthentic (a replay) or TimestampRefused."""
        while self._oldest_first and self._oldest_first[0][0] < now_ms - REQUEST_SKEW_MS_MAX:
            self._forget_oldest()
        if abs(now_ms - timestamp_ms) > REQUEST_SKEW_MS_MAX or timestamp_ms <= self.floor_ms:
            raise TimestampRefused(timestamp_ms, max(now_ms, self.floor_ms + 1))
        if nonce in self._seen:
            raise NotAuthentic("the same request was sent before")
        if len(self._seen) >= self._nonces_max:
            self._forget_oldest()
        self._seen.add(nonce)
        heapq.heappush(self._oldest_first, (timestamp_ms, nonce))

    def _forget_oldest(self) -> None:
        timestamp_ms, nonce = heapq.heappop(self._oldest_first)
        self._seen.remove(nonce)
        self.floor_ms = max(self.floor_ms, timestamp_ms)


def sign(key: bytes, method: str, path: str, body: bytes, timestamp_ms: int, nonce: bytes) -> str:
    """The Authorization header of a request. `path` is the raw target, query included."""
    assert len(nonce) == NONCE_BYTES, "a nonce that can repeat protects nothing"
    mac = _request_mac(key, method, path, body, str(timestamp_ms), nonce.hex())
    return f"{SCHEME} {timestamp_ms} {nonce.hex()} {mac}"


def verify(
    key: bytes,
    method: str,
    path: str,
    body: bytes,
    authorization: str | None,
    window: ReplayWindow,
    now_ms: int,
) -> None:
    """Return once for a request that a holder of `key` signed; raises NotAuthentic otherwise."""
    if authorization is None:
        raise NotAuthentic("the request is not signed")
    fields = authorization.split(" ")
    if len(fields) != 4 or fields[0] != SCHEME or not authorization.isascii():
        raise NotAuthentic("the Authorization header is not one of octad's internal ones")
    _, timestamp, nonce, mac = fields
    expected = _request_mac(key, method, path, body, timestamp, nonce)
    if not hmac.compare_digest(expected.encode(), mac.encode()):
        raise NotAuthentic("the signature is wrong: another secret, or a changed request")
    # Whoever made this mac holds the key: timestamp and nonce have the form that `sign` gave them.
    window.admit(nonce, int(timestamp), now_ms)


def signed_at(authorization: str) -> int:
    """The timestamp, in ms, of an Authorization header that was verified."""
    return int(authorization.split(" ")[-3])


def sign_answer(key: bytes, authorization: str, status: int, body: bytes) -> str:
    """The `ANSWER_MAC_HEADER` of the answer to the request that carried `authorization`."""
    text = f"answer\n{authorization}\n{status}\n{hashlib.sha256(body).hexdigest()}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def verify_answer(
    key: bytes, authorization: str, status: int, body: bytes, mac: str | None
) -> None:
    """Raises NotAuthentic unless a holder of `key` gave this answer to that very request."""
    if mac is None:
        raise NotAuthentic("the answer is not signed")
    expected = sign_answer(key, authorization, status, body)
    if not hmac.compare_digest(expected.encode(), mac.encode()):
        raise NotAuthentic("the answer's signature is wrong: another cluster's secret")


def _request_mac(
    key: bytes, method: str, path: str, body: bytes, timestamp: str, nonce: str
) -> str:
    digest = hashlib.sha256(body).hexdigest()
    text = f"request\n{method}\n{path}\n{digest}\n{timestamp}\n{nonce}"
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()
