"""One request on its way through the front door: what its handler knows and may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octad.client.s3.errors import S3Error
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.handlers.request import Body
from octad.storage_node.s3.protocol.requests.attempts import sdk_age_s, sdk_request_id
from octad.storage_node.s3.protocol.requests.names import check_owner_name
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.signatures.sigv4_verify import Authenticated
from octad.storage_node.shards.object_store import Bucket, ObjectStore


@dataclass(slots=True)
class RequestContext:
    """An authenticated request. Handlers take one and return its answer."""

    body: Body
    budget: BodyBudget
    store: ObjectStore
    region: str
    request_id: bytes
    next_request_id: Callable[[], bytes]  # For a request that writes more than once.
    now_ms: int
    owner: str  # Whose access key signed it.
    signature: Authenticated
    operation: S3Operation
    scheme: str  # Of the client's URL, as far as we know: "http" or "https".
    path: str  # Raw, as on the wire.
    headers: dict[str, str]  # Lower-case names; values as Latin-1 of their bytes.
    query: dict[str, str]  # Decoded, without what says nothing about the operation.
    bucket_name: str
    key: bytes
    body_awaited: bool  # The client waits for our word before it sends the body.
    memory_bytes: int = 0  # Taken for its body, until it is answered.

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
        target = [self.path, *(f"{name}={value}" for name, value in sorted(self.query.items()))]
        request_id = sdk_request_id(
            self.headers, self.signature.access_key, self.operation.value, [*target, *written]
        )
        if request_id is None:
            return self.next_request_id() if one_of_many else self.request_id, 0.0
        return request_id, sdk_age_s(self.headers)

    async def bucket(self) -> Bucket:
        """The bucket that the request names, if its sender may use it."""
        bucket = await self.store.get_bucket(self.bucket_name)
        self.check_owner(bucket, "x-amz-expected-bucket-owner")
        return bucket

    def check_owner(self, bucket: Bucket, expectation: str) -> None:
        """Only its owner may use a bucket; header `expectation` may insist on an owner."""
        expected = self.headers.get(expectation)
        if expected is not None:
            check_owner_name(expected)
        if bucket.owner != self.owner or expected not in (None, bucket.owner):
            raise S3Error("AccessDenied")

    async def invite_body(self) -> None:
        """All that can be checked without the body is checked: let the client send it."""
        if self.body_awaited:
            self.body_awaited = False
            await self.body.invite()
