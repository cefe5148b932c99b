"""Usage and quotas of buckets: the sums that nodes report, and the quotas that nodes enforce."""

from __future__ import annotations

import logging

import msgspec

from octad.coordinator.admin.admin_refusal import AdminRefused
from octad.coordinator.admin.admin_signature import Signer
from octad.coordinator.admin.bucket_changes import change_bucket
from octad.coordinator.schema.admin_messages import BucketDocument, BucketsDocument, QuotaRequest
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import BucketRecord, BucketUsageRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, KeyValue

QUOTA_BYTES_MAX = 1 << 60  # More than any disk, and exact as a double.

log = logging.getLogger(__name__)


class BucketQuotas:
    """See the module. All raise StoreUnavailable, BadRecord, and AdminRefused with the reason."""

    def __init__(self, store: ConfigStore, keys: StoreKeys) -> None:
        self._store = store
        self._keys = keys

    async def all_buckets(self) -> BucketsDocument:
        """All usable buckets, by name."""
        buckets = await self._store.range(self._keys.buckets)
        usages = {each.key: each for each in (await self._store.range(self._keys.usages)).entries}
        records = [decode_record(entry, BucketRecord) for entry in buckets.entries]
        return BucketsDocument(
            tuple(
                _document(record, usages.get(self._keys.usage(record.id)))
                for record in records
                if record.state == "active"
            )
        )

    async def set_quota(self, name: str, wanted: QuotaRequest, admin: Signer) -> BucketDocument:
        """Nodes enforce it as soon as they hear of it, which takes a second or two."""
        quota = wanted.quota_bytes
        if quota is not None and not 0 <= quota <= QUOTA_BYTES_MAX:
            raise AdminRefused(
                400, "bad-quota", f"a quota is 0 to {QUOTA_BYTES_MAX} bytes, or none"
            )
        record, is_new = await change_bucket(
            self._store,
            self._keys,
            name,
            lambda before: msgspec.structs.replace(before, quota_bytes=quota),
        )
        if is_new:
            log.info("%s set the quota of bucket %s to %s", admin.access_key, name, quota)
        return _document(record, await self._store.get(self._keys.usage(record.id)))


def _document(record: BucketRecord, usage: KeyValue | None) -> BucketDocument:
    used = BucketUsageRecord(0, 0) if usage is None else decode_record(usage, BucketUsageRecord)
    return BucketDocument(
        record.name, record.owner, record.pool, used.objects, used.bytes, record.quota_bytes
    )
