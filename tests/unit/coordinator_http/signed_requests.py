"""Signed requests of someone who holds a key, to be sent, kept or changed as a test likes."""

from __future__ import annotations

import os

import aiohttp
import msgspec

from octad.client.cluster.internal_auth import (
    AUTHORIZATION_HEADER,
    NONCE_BYTES,
    UNKNOWN_AUDIENCE,
    sign,
)


class Challenge(msgspec.Struct):
    """Of a refusal, whom and when to sign for."""

    audience: str
    now_ms: int


async def challenge_of(url: str, path: str, key: bytes) -> Challenge:
    """What the server at `url` says to a request that names no audience."""
    headers = {
        AUTHORIZATION_HEADER: sign(
            key, UNKNOWN_AUDIENCE, "POST", path, b"", 0, os.urandom(NONCE_BYTES)
        )
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + path, headers=headers) as response,
    ):
        assert response.status == 401
        return msgspec.json.decode(await response.read(), type=Challenge)


def signed(challenge: Challenge, key: bytes, path: str, body: bytes, method: str = "POST") -> str:
    """The Authorization of a new request to the server that gave `challenge`."""
    audience, now_ms = challenge.audience, challenge.now_ms
    return sign(key, audience, method, path, body, now_ms, os.urandom(NONCE_BYTES))


async def signed_for(url: str, key: bytes, path: str, body: bytes) -> str:
    """The Authorization of a request that the server at `url` takes once."""
    return signed(await challenge_of(url, path, key), key, path, body)
