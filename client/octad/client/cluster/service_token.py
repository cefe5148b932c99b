"""The token with which a service registers: less than the join token, which opens everything.

    octad1s-<cluster id>-<key, 32 bytes in unpadded URL-safe base64>-<4 hex digits of a checksum>

Its holders can register and withdraw services, and nothing else. `octad service token` makes
it from the join token; the join token is accepted in its place.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field

from octad.client.cluster.join_token import (
    SERVICE_PREFIX,
    BadJoinToken,
    JoinToken,
    decode_join_token,
    decoded_key,
    token_checksum,
)
from octad.client.cluster.service_records import REGISTRATION_PURPOSE


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A cluster's id and its key for registrations."""

    cluster: str
    key: bytes = field(repr=False)


def service_token(token: JoinToken) -> ServiceToken:
    """The part of `token` that services need."""
    return ServiceToken(token.cluster, token.key_for(REGISTRATION_PURPOSE))


def encode_service_token(token: ServiceToken) -> str:
    """The token as people copy it."""
    key = base64.urlsafe_b64encode(token.key).rstrip(b"=").decode()
    body = f"{SERVICE_PREFIX}-{token.cluster}-{key}"
    return f"{body}-{token_checksum(body)}"


def decode_service_token(text: str) -> ServiceToken:
    """Parses a service token or a join token; raises BadJoinToken."""
    if not text.strip().startswith(f"{SERVICE_PREFIX}-"):
        return service_token(decode_join_token(text))
    body, _, checksum = text.strip().rpartition("-")
    if not hmac.compare_digest(checksum.encode(), token_checksum(body).encode()):
        raise BadJoinToken("a part of the service token is missing: copy all of it")
    _, cluster, key_text = body.split("-", 2)
    return ServiceToken(cluster, decoded_key(key_text, "service token's key"))
