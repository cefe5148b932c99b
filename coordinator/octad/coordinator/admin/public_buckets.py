"""Lifts what keeps a bucket from the public, and puts it back."""

from __future__ import annotations

import logging

import msgspec

from octad.coordinator.admin.admin_signature import Signer
from octad.coordinator.admin.bucket_changes import change_bucket
from octad.coordinator.schema.admin_messages import PublicDocument, PublicRequest
from octad.coordinator.schema.bucket_settings import (
    ALL_BLOCKED,
    OWNER_ENFORCED,
    PublicAccessBlock,
)
from octad.coordinator.schema.records import BucketRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore

log = logging.getLogger(__name__)


class PublicBuckets:
    """See the module. Raises StoreUnavailable, BadRecord, and AdminRefused with the reason."""

    def __init__(self, store: ConfigStore, keys: StoreKeys) -> None:
        self._store = store
        self._keys = keys

    async def allow(self, name: str, wanted: PublicRequest, admin: Signer) -> PublicDocument:
        """No access list changes: those that were set before count again."""
        change = _opened if wanted.allowed else _closed
        record, is_new = await change_bucket(self._store, self._keys, name, change)
        if is_new:
            done = "may be opened to" if wanted.allowed else "is closed to"
            log.info("%s says that bucket %s %s the public", admin.access_key, name, done)
        return PublicDocument(record.name, wanted.allowed, record.acl)


def _opened(record: BucketRecord) -> BucketRecord:
    is_enforced = record.ownership == OWNER_ENFORCED
    ownership = "BucketOwnerPreferred" if is_enforced else record.ownership
    return msgspec.structs.replace(record, ownership=ownership, public_access=PublicAccessBlock())


def _closed(record: BucketRecord) -> BucketRecord:
    return msgspec.structs.replace(record, ownership=OWNER_ENFORCED, public_access=ALL_BLOCKED)
