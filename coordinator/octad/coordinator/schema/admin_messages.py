"""Requests and answers of the admin API, under `/cluster/v1/admin/`.

Each is signed with SigV4 by the access key of an admin (`admin/admin_signature.py`). The secret of
a new key never travels in the clear: the client generates it and seals it with a key
derived from the secret of the admin who signs.

    secret_sealed := base64(nonce 12 | AES-256-GCM(key, nonce, secret, data: the access key))
    key           := HMAC-SHA256(the admin's secret key, "octad admin")
"""

from __future__ import annotations

import hmac

import msgspec

from octad.coordinator.schema.records import AccessKeyRecord
from octad.coordinator.schema.sealing import seal, unseal

ADMIN_PATH = "/cluster/v1/admin/"
ADMIN_KEYS_PATH = f"{ADMIN_PATH}keys"
ADMIN_KEY_PATH = f"{ADMIN_KEYS_PATH}/{{access_key}}"
ADMIN_BUCKETS_PATH = f"{ADMIN_PATH}buckets"


class KeyDocument(msgspec.Struct, frozen=True):
    """An access key, without its secret."""

    access_key: str
    owner: str
    owner_id: str  # The owner's canonical id, as S3 shows it.
    admin: bool
    disabled: bool


class KeysDocument(msgspec.Struct, frozen=True):
    """All of them, by owner."""

    keys: tuple[KeyDocument, ...]


class CreateKeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same request again makes the same key: an answer may be lost."""

    owner: str
    secret_sealed: str
    admin: bool = False


class BucketDocument(msgspec.Struct, frozen=True):
    """A bucket and what it takes, as counted some seconds ago."""

    name: str
    owner: str
    pool: int
    objects: int
    bytes: int  # With the parts of uploads that are open; one copy of each.
    quota_bytes: int | None  # None: as much as there is room for.


class BucketsDocument(msgspec.Struct, frozen=True):
    """All of them, by name."""

    buckets: tuple[BucketDocument, ...]


class QuotaRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many bytes a bucket may take; None: as many as there is room for."""

    quota_bytes: int | None


class PublicRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`allowed`: access lists of the bucket and its objects count, and may open them."""

    allowed: bool


class PublicDocument(msgspec.Struct, frozen=True):
    """How the bucket is from now on; `acl` is its own list, whether it counts or not."""

    name: str
    allowed: bool
    acl: str


def seal_new_secret(admin_secret: str, access_key: str, secret: str, nonce: bytes) -> str:
    """`secret` of the new `access_key`, for the coordinator alone; `nonce` as in `sealing`."""
    return seal(_sealing_key(admin_secret), secret.encode(), access_key.encode(), nonce)


def unseal_new_secret(admin_secret: str, access_key: str, sealed: str) -> str:
    """The inverse; raises DoesNotOpen, and UnicodeDecodeError if it is not text."""
    return unseal(_sealing_key(admin_secret), sealed, access_key.encode()).decode()


def _sealing_key(admin_secret: str) -> bytes:
    return hmac.digest(admin_secret.encode(), b"octad admin", "sha256")


def key_document(record: AccessKeyRecord, owner_id: str) -> KeyDocument:
    """The public part of `record`, for admins."""
    return KeyDocument(record.access_key, record.owner, owner_id, record.admin, record.disabled)
