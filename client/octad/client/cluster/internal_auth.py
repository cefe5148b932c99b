"""Authentication of octad's internal HTTP: a request and its answer are signed with a cluster key.

    Authorization: octad-hmac-sha256-2 <audience> <timestamp, ms> <nonce, 32 hex digits> <mac>
    mac = HMAC-SHA256(key, lines of "request-2", audience, method, target, sha256(body), timestamp,
                      nonce)
    Octad-Answer-Mac = HMAC-SHA256(key, lines of "answer", Authorization, status, sha256(body))

The key is one that `JoinToken.key_for` derived for this one service, so a request to one service is
worth nothing at another. The audience is one life of one server process, so what was captured on
its way to one is worth nothing at another, nor at the same one after a restart. There, a request is
taken once: its nonce is remembered for as long as its timestamp would pass. An answer belongs to
one request, so no one else can give it.

A client need not know whom it reaches: who refuses an audience, or a timestamp, says its own
audience and time in a signed answer, and the client signs again for those. So neither proxies nor
restarts need anything, and no clock needs to be right: timestamps only bound how long nonces are
kept, by a time that never goes back (the wall clock at the server's start plus the monotonic time
since). This file authenticates; it does not encrypt.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import re

# Signed internal HTTP: how far two clocks may differ, how many requests are remembered meanwhile.
REQUEST_SKEW_MS_MAX = 300_000
REPLAY_NONCES_MAX = 100_000

SCHEME = "octad-hmac-sha256-2"
OLD_SCHEME = "octad-hmac-sha256"  # Named no audience: could be replayed at another process.
UNKNOWN_AUDIENCE = "-"  # For a first request; the refusal names the process to sign for.
AUTHORIZATION_HEADER = "Authorization"
ANSWER_MAC_HEADER = "Octad-Answer-Mac"
NONCE_BYTES = 16

_TIMESTAMP = re.compile(r"[0-9]{1,18}", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)


class NotAuthentic(Exception):
    """The request (or the answer) was not made by a holder of the key, or was seen before."""


class SignAgain(NotAuthentic):
    """Signed with the key, but for another process or time: signing for these will do.

    `code`: "audience" or "timestamp".
    """

    def __init__(self, code: str, reason: str, audience: str, now_ms: int) -> None:
        super().__init__(reason)
        self.code = code
        self.audience = audience
        self.now_ms = now_ms


class ReplayWindow:
    """The nonces of requests taken so far, bounded in time and in number; fails closed.

    Forgetting a nonce raises `floor_ms`: requests signed at or before it are refused, so a
    forgotten request cannot be replayed. `audience` is new for every window: a random name.
    """

    def __init__(self, audience: str, *, nonces_max: int = REPLAY_NONCES_MAX) -> None:
        assert audience not in ("", UNKNOWN_AUDIENCE), "it has a name of its own"
        self.audience = audience
        self.floor_ms = 0
        self._nonces_max = nonces_max
        self._seen: set[str] = set()
        self._oldest_first: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, audience: str, nonce: str, timestamp_ms: int, now_ms: int) -> None:
        """Take a request once; raises NotAuthentic (a replay) or SignAgain."""
        acceptable_ms = max(now_ms, self.floor_ms + 1)
        if audience != self.audience:
            reason = "the request was signed for another process, or an earlier life of this one"
            raise SignAgain("audience", reason, self.audience, acceptable_ms)
        while self._oldest_first and self._oldest_first[0][0] < now_ms - REQUEST_SKEW_MS_MAX:
            self._forget_oldest()
        if abs(now_ms - timestamp_ms) > REQUEST_SKEW_MS_MAX or timestamp_ms <= self.floor_ms:
            reason = (
                f"the request was signed {abs(now_ms - timestamp_ms) / 1000:.0f} s "
                f"{'before' if timestamp_ms < now_ms else 'after'} the time of this server"
            )
            raise SignAgain("timestamp", reason, self.audience, acceptable_ms)
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


def sign(
    key: bytes,
    audience: str,
    method: str,
    path: str,
    body: bytes,
    timestamp_ms: int,
    nonce: bytes,
) -> str:
    """The Authorization header of a request. `path` is the raw target, query included."""
    assert len(nonce) == NONCE_BYTES, "a nonce that can repeat protects nothing"
    mac = _request_mac(key, audience, method, path, body, str(timestamp_ms), nonce.hex())
    return f"{SCHEME} {audience} {timestamp_ms} {nonce.hex()} {mac}"


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
    if fields[0] == OLD_SCHEME:
        raise NotAuthentic(
            "an older octad signed the request, without naming the process that it is for, so that"
            " it could be replayed at another: upgrade the octad that sent it"
        )
    if len(fields) != 5 or fields[0] != SCHEME or not authorization.isascii():
        raise NotAuthentic("the Authorization header is not one of octad's internal ones")
    _, audience, timestamp, nonce, mac = fields
    expected = _request_mac(key, audience, method, path, body, timestamp, nonce)
    if not hmac.compare_digest(expected.encode(), mac.encode()):
        raise NotAuthentic("the signature is wrong: another secret, or a changed request")
    # Programs of others sign, too; the size of a remembered nonce is bounded.
    if not _TIMESTAMP.fullmatch(timestamp):
        raise NotAuthentic("the timestamp is not whole milliseconds since 1970")
    if not _NONCE.fullmatch(nonce):
        raise NotAuthentic(f"the nonce is not {NONCE_BYTES} random bytes in hex, lower case")
    window.admit(audience, nonce, int(timestamp), now_ms)


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
    key: bytes, audience: str, method: str, path: str, body: bytes, timestamp: str, nonce: str
) -> str:
    digest = hashlib.sha256(body).hexdigest()
    text = f"request-2\n{audience}\n{method}\n{path}\n{digest}\n{timestamp}\n{nonce}"
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()
