"""The token with which a service registers: less than the join token, which opens everything.

    octad1s-<cluster id>-<key, 32 bytes in unpadded URL-safe base64>-<4 hex digits of a checksum>
    octad1p-<cluster id>-<prefix>-<key>-<checksum>

Its holders can register and withdraw services, hold locks and change settings, and nothing else;
with a prefix, only those whose names begin with it. `octad service token` makes it from the join
token, or from the one without a prefix; the join token is accepted in its place.

The key of a prefix is derived from the service key: HMAC-SHA256 of `octad prefix <prefix>`. So a
coordinator keeps nothing of the tokens that were handed out, and none can be widened.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field

from octad.client.cluster.join_token import (
    SCOPED_PREFIX,
    SERVICE_PREFIX,
    BadJoinToken,
    JoinToken,
    decode_join_token,
    decoded_key,
    token_checksum,
)
from octad.client.cluster.service_records import REGISTRATION_PURPOSE

SCOPE_HEADER = "Octad-Prefix"  # Of a request that is signed with the key of a prefix.
_KEY_CHARACTERS = 43
_SCOPE = re.compile(r"[A-Za-z0-9._:/-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A cluster's id and its key for registrations; of names that begin with `prefix`."""

    cluster: str
    key: bytes = field(repr=False)
    prefix: str = ""

    def narrowed(self, prefix: str) -> ServiceToken:
        """The same for `prefix` alone. Raises BadJoinToken for no prefix, or beside ours."""
        if _SCOPE.fullmatch(prefix) is None:
            raise BadJoinToken(f"{prefix!r} is no prefix: letters, digits and . _ : / -, up to 64")
        if self.prefix:
            raise BadJoinToken(
                f"this token is for the prefix {self.prefix} alone: narrow the one without a prefix"
            )
        return ServiceToken(self.cluster, key_of_prefix(self.key, prefix), prefix)


def service_token(token: JoinToken) -> ServiceToken:
    """The part of `token` that services need."""
    return ServiceToken(token.cluster, token.key_for(REGISTRATION_PURPOSE))


def key_of_prefix(service_key: bytes, prefix: str) -> bytes:
    return hmac.digest(service_key, f"octad prefix {prefix}".encode(), "sha256")


def is_scope(prefix: str) -> bool:
    return _SCOPE.fullmatch(prefix) is not None


def encode_service_token(token: ServiceToken) -> str:
    """The token as people copy it."""
    key = base64.urlsafe_b64encode(token.key).rstrip(b"=").decode()
    body = f"{SERVICE_PREFIX}-{token.cluster}-{key}"
    if token.prefix:
        body = f"{SCOPED_PREFIX}-{token.cluster}-{token.prefix}-{key}"
    return f"{body}-{token_checksum(body)}"


def decode_service_token(text: str) -> ServiceToken:
    """Parses a service token or a join token; raises BadJoinToken."""
    scoped = text.strip().startswith(f"{SCOPED_PREFIX}-")
    if not scoped and not text.strip().startswith(f"{SERVICE_PREFIX}-"):
        return service_token(decode_join_token(text))
    body, _, checksum = text.strip().rpartition("-")
    if not hmac.compare_digest(checksum.encode(), token_checksum(body).encode()):
        raise BadJoinToken("a part of the service token is missing: copy all of it")
    _, cluster, key_text = body.split("-", 2)
    if scoped:  # Both may have a "-" in them.
        prefix, key_text = key_text[: -_KEY_CHARACTERS - 1], key_text[-_KEY_CHARACTERS:]
        return ServiceToken(cluster, decoded_key(key_text, "service token's key"), prefix)
    return ServiceToken(cluster, decoded_key(key_text, "service token's key"))
