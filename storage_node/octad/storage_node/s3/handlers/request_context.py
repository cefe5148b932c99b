"""One request on its way through the front door: what its handler knows and may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from octad.client.s3.access_lists import ANONYMOUS, PRIVATE, READ
from octad.client.s3.errors import S3Error
from octad.client.s3.owners import canonical_id
from octad.client.s3.sigv4_verify import Authenticated
from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.storage_node.index.rows import ObjectExtras, ObjectRow, some_extras
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.handlers.request import Body, Form
from octad.storage_node.s3.protocol.access import may
from octad.storage_node.s3.protocol.asked_lists import OwnerOf, grants_asked, list_to_store
from octad.storage_node.s3.protocol.requests.attempts import INVOCATION, sdk_age_s, sdk_request_id
from octad.storage_node.s3.protocol.requests.request_headers import LIST_HEADERS
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.requests.tags import TAGGING_HEADER, tags_in_header
from octad.storage_node.s3.protocol.xml.documents import Owner
from octad.storage_node.shards.object_store import Bucket, ObjectStore

_OF_EXTRAS: Final = frozenset((*LIST_HEADERS, TAGGING_HEADER))


class RequestContext(msgspec.Struct):
    """A request whose sender is known, or known to be anonymous. Handlers take one and return its
    answer."""

    body: Body
    budget: BodyBudget
    store: ObjectStore
    region: str
    request_id: bytes
    next_request_id: Callable[[], bytes]  # For a request that writes more than once.
    now_ms: int
    owner: str  # The owner of the signing access key; ANONYMOUS without one.
    owner_of_id: OwnerOf
    cluster: str
    signature: Authenticated
    operation: S3Operation
    scheme: str  # The scheme of the client's URL, as far as known: "http" or "https".
    path: str  # Raw, as on the wire.
    headers: dict[str, str]  # Lower-case names; values as Latin-1 of their bytes.
    query: dict[str, str]  # Decoded, without what says nothing about the operation.
    bucket_name: str
    key: bytes
    body_awaited: bool  # The client waits for our word before it sends the body.
    new_buckets: BucketSettings  # Defaults of new buckets.
    strict_aws: bool  # No append, and no condition that AWS does not take.
    memory_bytes: int = 0  # Taken for its body, until it is answered.
    # Set by `authorize`.
    found_bucket: Bucket | None = None
    found_source: Bucket | None = None  # The bucket of the copied object.
    form: Form | None = None  # Where the request is one.
    object_decides: bool = False  # No answer before `readable` has seen what is read.

    def take_memory_now(self, size: int) -> bool:
        """`take_memory` where no one has to wait; else nothing has happened."""
        if not self.budget.gate(size).share.take(size):
            return False
        self.memory_bytes = size
        return True

    async def take_memory(self, size: int) -> None:
        """For a body of `size` bytes that is held until it is answered; once."""
        await self.budget.gate(size).take(size)
        self.memory_bytes = size

    def give_memory_back(self) -> None:
        """The request is answered, or has failed."""
        self.budget.gate(self.memory_bytes).give_back(self.memory_bytes)

    @property
    def memory_is_wanted(self) -> bool:
        """Whether others wait for memory like that of this body."""
        return self.budget.gate(self.memory_bytes).is_wanted

    def write_id(self, *written: str, one_of_many: bool = False) -> tuple[bytes, float]:
        """Request id and age of the write of `written` to what the request names.

        The same id for all tries that an SDK makes of it, through whichever node.
        """
        invocation = self.headers.get(INVOCATION)
        if not invocation:
            return self.next_request_id() if one_of_many else self.request_id, 0.0
        target = [self.path, *(f"{name}={value}" for name, value in sorted(self.query.items()))]
        what = self.signature.access_key, invocation, self.operation, *target, *written
        return sdk_request_id(what), sdk_age_s(self.headers)

    async def bucket(self) -> Bucket:
        """The bucket that the request names; its sender may have what the request asks for."""
        assert self.found_bucket is not None, "no one has been authorized"
        return self.found_bucket

    def new_extras(self, bucket: Bucket) -> ObjectExtras | None:
        """The rare attributes of an object that the request makes; raises S3Error."""
        if self.owner == bucket.owner and _OF_EXTRAS.isdisjoint(self.headers):
            return None
        tagging = self.headers.get(TAGGING_HEADER)
        keeper = bucket.owner if self.owner == ANONYMOUS else self.owner
        of = bucket, bucket.owner
        acl = list_to_store(grants_asked(self.headers, *of, keeper, self.owner_of_id), *of)
        tags = tags_in_header(tagging) if tagging else {}
        extras = some_extras(ObjectExtras(tags, "" if acl == PRIVATE else acl))
        if extras is not None:
            self.require_extras()
        return extras

    def readable(self, bucket: Bucket, row: ObjectRow | None) -> ObjectRow | None:
        """An object that is read, as its reader may see it: what few objects have is its owner's.

        Raises AccessDenied where its access list does not let the sender read it.
        """
        if bucket.owner == self.owner and self.owner != ANONYMOUS:
            return row
        self.require_on_object(bucket, row, READ)
        return None if row is None else msgspec.structs.replace(row, extras=None)

    def require_on_object(self, bucket: Bucket, row: ObjectRow | None, permission: str) -> None:
        """Raises AccessDenied unless the sender has the permission on the object.

        That there is no such object is shown to senders that may list the bucket.
        """
        acl, wanted = (bucket.acl, READ) if row is None else (acl_of(row), permission)
        if not may(bucket, acl, bucket.owner, self.owner, wanted):
            raise S3Error("AccessDenied")
        self.object_decides = False

    def require_extras(self, what: str = "Tags and access lists of objects can be kept") -> None:
        """Raises ServiceUnavailable while the cluster is being upgraded: older nodes lose them."""
        if not self.store.keeps_extras:
            raise S3Error(
                "ServiceUnavailable",
                f"{what} once every node knows them: upgrade those that octad status shows with an "
                "older version.",
            )

    def shown(self, owner: str) -> Owner:
        """An owner, as documents name one."""
        return Owner(canonical_id(self.cluster, owner), owner)

    def check_quota(self, bucket: Bucket, size: int) -> None:
        """`size` more bytes must not exceed the bucket's quota; asked before they are read."""
        quota = bucket.quota_bytes
        if quota is not None and self.store.used_bytes(bucket) + size > quota:
            raise S3Error("QuotaExceeded", fields={"BucketName": bucket.name})

    async def invite_body(self) -> None:
        """Let the client send the body: everything that needs no body has been checked."""
        if self.body_awaited:
            self.body_awaited = False
            await self.body.invite()


def acl_of(row: ObjectRow) -> str:
    """The access list of an object."""
    return PRIVATE if row.extras is None else row.extras.acl or PRIVATE
