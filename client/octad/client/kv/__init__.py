"""The SDK's settings: small values that services share, change by compare-and-swap, and watch.

async with open_kv(coordinator=url, token=token) as kv:
    entry = await kv.get("app/limits")
    await kv.put("app/limits", b"…", if_revision=entry.revision)
"""

from __future__ import annotations

from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.kv.kv_client import Kv, open_kv
from octad.client.kv.kv_records import BadKey, KvEntry, KvKey

__all__ = [
    "BadKey",
    "CallRefused",
    "CoordinatorsUnreachable",
    "Kv",
    "KvEntry",
    "KvKey",
    "open_kv",
]
