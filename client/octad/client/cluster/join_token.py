"""The join token: names a cluster and carries its secret, so that machines can find and trust it.

    octad1-<cluster id>-<secret, 32 bytes in unpadded URL-safe base64>-<4 hex digits of a checksum>

Every internal key is derived from the secret by purpose (HKDF-like: HMAC-SHA256 over the purpose's
name), never the secret itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

PREFIX = "octad1"
SERVICE_PREFIX = "octad1s"  # Marks a `service_token`, which allows less,
SCOPED_PREFIX = "octad1p"  # or less still: for names that begin alike.
SECRET_BYTES = 32


class BadJoinToken(ValueError):
    """Not a join token, or one with a typing mistake."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A cluster's id (8 lower-case hex digits) and its secret."""

    cluster: str
    secret: bytes = field(repr=False)

    def key_for(self, purpose: str) -> bytes:
        """The 32-byte key for one purpose ("rpc", "coordinator-http", "access-keys", …)."""
        return hmac.digest(self.secret, f"octad {self.cluster} {purpose}".encode(), "sha256")


def encode_join_token(token: JoinToken) -> str:
    """The token as people copy it."""
    secret = base64.urlsafe_b64encode(token.secret).rstrip(b"=").decode()
    body = f"{PREFIX}-{token.cluster}-{secret}"
    return f"{body}-{token_checksum(body)}"


def decode_join_token(text: str) -> JoinToken:
    """The inverse; raises BadJoinToken."""
    if text.strip().startswith((f"{SERVICE_PREFIX}-", f"{SCOPED_PREFIX}-")):
        raise BadJoinToken(
            "this is a service token, with which services register and nothing else: the join token"
            f" is what the first coordinator printed, {PREFIX}-…"
        )
    body, _, checksum = text.strip().rpartition("-")
    prefix, _, rest = body.partition("-")
    cluster, _, secret_text = rest.partition("-")
    if prefix != PREFIX or not hmac.compare_digest(
        checksum.encode(), token_checksum(body).encode()
    ):
        raise BadJoinToken("not a join token, or a part of it is missing: copy all of it")
    return JoinToken(cluster, decoded_key(secret_text, "join token's secret"))


def token_checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:4]


def decoded_key(text: str, what: str) -> bytes:
    """The key of a token, of whose text it is a part; raises BadJoinToken."""
    try:
        key = base64.urlsafe_b64decode(text + "=")
    except (binascii.Error, ValueError) as error:
        raise BadJoinToken(f"the {what} is not base64") from error
    if len(key) != SECRET_BYTES:
        raise BadJoinToken(f"the {what} has {len(key)} bytes, not {SECRET_BYTES}")
    return key
