"""Small secrets, encrypted and authenticated: AES-256-GCM, as text.

    sealed := base64(nonce: 12 bytes | ciphertext and tag)

What a secret belongs to is associated data, so it does not open anywhere else. Keys come from
`JoinToken.key_for`; the random nonce is the caller's, and used once.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class DoesNotOpen(ValueError):
    """Sealed with another key, for something else, or damaged."""


def seal(key: bytes, secret: bytes, belongs_to: bytes, nonce: bytes) -> str:
    """`secret` as text that only a holder of `key` can read."""
    assert len(nonce) == NONCE_BYTES
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, secret, belongs_to)).decode()


def unseal(key: bytes, sealed: str, belongs_to: bytes) -> bytes:
    """The secret; raises DoesNotOpen."""
    try:
        data = base64.b64decode(sealed, validate=True)
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], belongs_to)
    except (binascii.Error, ValueError, InvalidTag) as error:
        raise DoesNotOpen("the sealed secret does not open with this cluster's key") from error
