"""Signs requests to the servers behind one URL, and learns from their refusals whom to sign for."""

from __future__ import annotations

import os
import random
import secrets

from octad.client.cluster.internal_auth import (
    NONCE_BYTES,
    UNKNOWN_AUDIENCE,
    ReplayWindow,
    sign,
)
from octad.client.runtime.steady_clock import SteadyClock

_AUDIENCE_BYTES = 8
# A first request is always refused once. More tries are for a proxy that sends each to another one:
# of two that it chooses from at random, a write fails to meet the right one once in 10^8 times.
SIGN_TRIES_MAX = 30


def new_replay_window() -> ReplayWindow:
    """For one life of one server."""
    return ReplayWindow(secrets.token_hex(_AUDIENCE_BYTES))


class RequestSigner:
    """Lives as long as the URL is used: only the first request pays for the extra round trip."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._clock = SteadyClock()
        self._ahead_ms = 0
        self._audience = UNKNOWN_AUDIENCE

    def sign(self, method: str, path: str, body: bytes) -> str:
        """The Authorization header."""
        now_ms = self._clock.now_ms() + self._ahead_ms
        nonce = os.urandom(NONCE_BYTES)
        return sign(self._key, self._audience, method, path, body, now_ms, nonce)

    def learn(self, audience: str, now_ms: int, heard: list[str]) -> None:
        """Learn from a refusal with a valid signature.

        `heard`: who refused this very request so far, the latest last. One that is heard again did
        so in another one's place: a proxy chooses, so we may only guess. One that goes round comes
        to the one heard longest ago; any other one may come to all.
        """
        self._ahead_ms = now_ms - self._clock.now_ms()
        known = audience in heard
        if known:
            heard.remove(audience)
        heard.append(audience)
        guess = random.choice((heard[0], random.choice(heard)))
        self._audience = guess if known else audience
