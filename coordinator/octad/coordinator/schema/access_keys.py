"""Secrets of access keys as the configuration store keeps them: sealed with the cluster secret.

The access key's name is associated data, so a secret copied under another name does not open.
"""

from __future__ import annotations

import re

from octad.client.cluster.join_token import JoinToken
from octad.coordinator.schema.records import AccessKeyRecord
from octad.coordinator.schema.sealing import seal, unseal

PURPOSE = "access-keys"
# Characters that need no escape in the credential of a signature, and are not its separator.
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._-]{3,128}")
_SECRET = re.compile(r"[!-~]{8,128}")


class BadCredentials(ValueError):
    """An unusable access key or secret; the message says which and why."""


def is_access_key(name: str) -> bool:
    """Whether an access key can be called so."""
    return _ACCESS_KEY.fullmatch(name) is not None


def check_credentials(access_key: str, secret: str) -> None:
    """Raises BadCredentials."""
    if not is_access_key(access_key):
        raise BadCredentials(
            "an access key has 3 to 128 letters, digits, dots, dashes and underscores"
        )
    if not _SECRET.fullmatch(secret):
        raise BadCredentials("a secret key has 8 to 128 printable ASCII characters, no spaces")


def access_key_record(
    token: JoinToken,
    access_key: str,
    secret: str,
    owner: str,
    nonce: bytes,
    *,
    admin: bool = False,
) -> AccessKeyRecord:
    """The record that keeps `secret`; `nonce` as in `sealing`."""
    sealed = seal(token.key_for(PURPOSE), secret.encode(), access_key.encode(), nonce)
    return AccessKeyRecord(access_key, sealed, owner, admin=admin)


def secret_of(token: JoinToken, record: AccessKeyRecord) -> str:
    """The secret that `record` keeps; raises DoesNotOpen."""
    key = token.key_for(PURPOSE)
    return unseal(key, record.secret_encrypted, record.access_key.encode()).decode()
