"""octad for applications: `octad.Client`, `octad.AsyncClient`, and what they return and raise.

Names are loaded when they are asked for. The package is spread over several folders, or
distributions, each of which holds a part of it.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING

__path__ = extend_path(__path__, __name__)
if __spec__ is not None:
    __spec__.has_location = False  # No single one: import-linter takes it for a namespace then.

if TYPE_CHECKING:
    from octad.client.adapters.obspec_store import ObspecStore
    from octad.client.adapters.other_clients import boto3_client, obstore_store
    from octad.client.checkpoints.async_checkpoint import AsyncCheckpoint
    from octad.client.checkpoints.async_checkpoints import AsyncCheckpoints
    from octad.client.checkpoints.async_writer import AsyncCheckpointWriter
    from octad.client.checkpoints.checkpoints import Checkpoint, Checkpoints, CheckpointWriter
    from octad.client.checkpoints.rules.errors import (
        BaseDropped,
        CheckpointDamaged,
        CheckpointFenced,
        CheckpointNotFound,
        CheckpointTooNew,
    )
    from octad.client.checkpoints.rules.key_values import key_value_file
    from octad.client.errors import (
        AccessDenied,
        BreakerOpen,
        BucketExists,
        BucketNotEmpty,
        BucketNotFound,
        CannotReach,
        ClientClosed,
        ConditionFailed,
        ConfigurationError,
        Damaged,
        DeadlineExceeded,
        DownloadFailed,
        NotFound,
        ObjectNotFound,
        OctadError,
        Overloaded,
        Refused,
        StorageFull,
        Unavailable,
        UploadNotFound,
        WrongClock,
        WrongKey,
        WrongProtocol,
    )
    from octad.client.objects.async_bucket import AsyncBucket
    from octad.client.objects.async_client import AsyncClient
    from octad.client.objects.bucket import Bucket
    from octad.client.objects.client import Client
    from octad.client.objects.results import CommonPrefix, Object, ObjectInfo, Written
    from octad.client.resilience.breaker import Breaker

__all__ = [
    "AccessDenied",
    "AsyncBucket",
    "AsyncCheckpoint",
    "AsyncCheckpointWriter",
    "AsyncCheckpoints",
    "AsyncClient",
    "BaseDropped",
    "Breaker",
    "BreakerOpen",
    "Bucket",
    "BucketExists",
    "BucketNotEmpty",
    "BucketNotFound",
    "CannotReach",
    "Checkpoint",
    "CheckpointDamaged",
    "CheckpointFenced",
    "CheckpointNotFound",
    "CheckpointTooNew",
    "CheckpointWriter",
    "Checkpoints",
    "Client",
    "ClientClosed",
    "CommonPrefix",
    "ConditionFailed",
    "ConfigurationError",
    "Damaged",
    "DeadlineExceeded",
    "DownloadFailed",
    "NotFound",
    "Object",
    "ObjectInfo",
    "ObjectNotFound",
    "ObspecStore",
    "OctadError",
    "Overloaded",
    "Refused",
    "StorageFull",
    "Unavailable",
    "UploadNotFound",
    "Written",
    "WrongClock",
    "WrongKey",
    "WrongProtocol",
    "boto3_client",
    "key_value_file",
    "obstore_store",
]

_CHECKPOINTS = "octad.client.checkpoints"
_MODULES = {
    "AsyncCheckpoint": f"{_CHECKPOINTS}.async_checkpoint",
    "AsyncCheckpoints": f"{_CHECKPOINTS}.async_checkpoints",
    "AsyncCheckpointWriter": f"{_CHECKPOINTS}.async_writer",
    "AsyncBucket": "octad.client.objects.async_bucket",
    "AsyncClient": "octad.client.objects.async_client",
    "Breaker": "octad.client.resilience.breaker",
    "Bucket": "octad.client.objects.bucket",
    "Client": "octad.client.objects.client",
    "ObspecStore": "octad.client.adapters.obspec_store",
    "key_value_file": f"{_CHECKPOINTS}.rules.key_values",
    "boto3_client": "octad.client.adapters.other_clients",
    "obstore_store": "octad.client.adapters.other_clients",
    **dict.fromkeys(
        ("Checkpoint", "Checkpoints", "CheckpointWriter"), f"{_CHECKPOINTS}.checkpoints"
    ),
    **dict.fromkeys(
        (
            "BaseDropped",
            "CheckpointDamaged",
            "CheckpointFenced",
            "CheckpointNotFound",
            "CheckpointTooNew",
        ),
        f"{_CHECKPOINTS}.rules.errors",
    ),
    **dict.fromkeys(
        ("CommonPrefix", "Object", "ObjectInfo", "Written"), "octad.client.objects.results"
    ),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'octad' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_MODULES.get(name, "octad.client.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
