"""Requests of an admin to a coordinator in this process, signed or altered as a test likes."""

from __future__ import annotations

import hashlib
import time
from urllib.parse import urlsplit

import aiohttp
import msgspec

from octad.client.s3.sigv4 import Credentials, sign_request
from octad.coordinator.schema.admin_messages import (
    ADMIN_KEYS_PATH,
    CreateKeyRequest,
    seal_new_secret,
)

ROOT = Credentials("octad", "octad-secret")
REGION = "us-east-1"


def signed_headers(
    url: str,
    method: str,
    path: str,
    body: bytes,
    credentials: Credentials = ROOT,
    *,
    now: float | None = None,
    content_sha256: str | None = None,
) -> dict[str, str]:
    """What `url` takes for a request of `credentials`."""
    headers = {"host": urlsplit(url).netloc}
    path, _, query = path.partition("?")
    added, _ = sign_request(
        method=method,
        path=path,
        query=query,
        headers=headers,
        credentials=credentials,
        region=REGION,
        now=time.time() if now is None else now,
        content_sha256=content_sha256 or hashlib.sha256(body).hexdigest(),
    )
    return {**headers, **added}


async def send(
    url: str, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, data=body or None, headers=headers) as response,
    ):
        return response.status, await response.read()


async def ask(
    url: str, method: str, path: str, body: bytes = b"", credentials: Credentials = ROOT
) -> tuple[int, bytes]:
    """Status and body of a request that is signed as it should be."""
    return await send(url, method, path, body, signed_headers(url, method, path, body, credentials))


async def create_key(
    url: str, key: Credentials, owner: str, *, admin: bool = False, signer: Credentials = ROOT
) -> tuple[int, bytes]:
    """Ask for `key` of `owner`."""
    nonce = hashlib.sha256(key.access_key.encode()).digest()[:12]
    sealed = seal_new_secret(signer.secret_key, key.access_key, key.secret_key, nonce)
    body = msgspec.json.encode(CreateKeyRequest(owner, sealed, admin))
    return await ask(url, "PUT", f"{ADMIN_KEYS_PATH}/{key.access_key}", body, signer)
