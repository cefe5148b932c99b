"""Every operation that S3 has, as botocore's model lists them, and what octad makes of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import botocore.session

from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation

# Those that AWS serves at hosts of their own, not at a bucket's endpoint.
OF_OTHER_HOSTS = {
    "CreateSession": "directory buckets",
    "ListDirectoryBuckets": "directory buckets",
    "WriteGetObjectResponse": "object lambda",
}
# Names of before, that clients no longer send: the model keeps them for old programs.
OF_BEFORE = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}

# No bucket has Object Lock, and these are answered as AWS does for such a bucket.
OF_OBJECT_LOCK = frozenset(
    f"{verb}Object{what}"
    for verb in ("Get", "Put")
    for what in ("LegalHold", "LockConfiguration", "Retention")
)


@dataclass(frozen=True)
class ModelOperation:
    """One operation of the model."""

    name: str
    method: str
    path: str  # As the model writes it: /{Bucket}/{Key+}?acl
    is_served: bool  # Else octad answers 501 NotImplemented.

    @property
    def what(self) -> str:
        """What it is asked of: service, bucket or object."""
        if "{Key" in self.path:
            return "objects"
        return "buckets" if "{Bucket}" in self.path else "the service"


def model_operations() -> Iterator[ModelOperation]:
    """By name."""
    model = botocore.session.get_session().get_service_model("s3")
    served = {operation.value for operation in S3Operation}
    for name in sorted(model.operation_names):
        http = model.operation_model(name).http
        is_served = OF_BEFORE.get(name, name) in served
        yield ModelOperation(name, http["method"], http["requestUri"], is_served)
