"""What admins have changed of a bucket: a compare-and-swap of its record, tried again."""

from __future__ import annotations

from collections.abc import Callable

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.admin.admin_refusal import AdminRefused
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import BucketRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, ModRevisionIs, Put, StoreUnavailable

_ATTEMPTS = 5


async def change_bucket(
    store: ConfigStore, keys: StoreKeys, name: str, change: Callable[[BucketRecord], BucketRecord]
) -> tuple[BucketRecord, bool]:
    """The record as it is now, and whether that is new: done again it changes nothing.

    Raises StoreUnavailable, BadRecord, and AdminRefused where there is no such bucket.
    """
    for _ in range(_ATTEMPTS):
        entry = await store.get(keys.bucket(name))
        before = None if entry is None else decode_record(entry, BucketRecord)
        if entry is None or before is None or before.state != "active":
            raise AdminRefused(
                404,
                "no-such-bucket",
                f"there is no bucket {name}; make it first, as with: aws s3 mb s3://{name}",
            )
        after = change(before)
        if after == before:
            return before, False
        outcome = await store.transact(
            [ModRevisionIs(entry.key, entry.mod_revision)],
            [Put(entry.key, with_unknown_fields(entry.value, after))],
        )
        if outcome.succeeded:
            return after, True
    raise StoreUnavailable(f"bucket {name} keeps being changed by somebody else")
