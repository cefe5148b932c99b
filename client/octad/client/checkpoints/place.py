"""What checkpoints stand on: objects, the log if there is one, a clock and a source of names."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple, Protocol

from octad.client.checkpoints.rules.names import Layout
from octad.client.errors import (
    ConditionFailed,
    ObjectNotFound,
    OctadError,
    Refused,
)
from octad.client.http.transport import Bytes, Runtime
from octad.client.objects.async_bucket import AsyncBucket


class Found(NamedTuple):
    """An object's bytes, and what a condition on them names."""

    data: bytes
    etag: str


class Listed(NamedTuple):
    key: str
    size: int


class Store(Protocol):
    """The objects. All raise OctadError."""

    async def read(self, key: str) -> Found | None: ...

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        """Raises ObjectNotFound. What comes back is the caller's to check."""

    async def put(
        self, key: str, data: Bytes, *, if_match: str = "", if_none_match: str = ""
    ) -> str:
        """The new ETag. Raises ConditionFailed."""

    async def copy(self, source: str, key: str) -> None:
        """Raises ObjectNotFound."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Those that are not there are no error."""

    def list(self, prefix: str) -> AsyncGenerator[Listed, None]: ...


class Pin(NamedTuple):
    """What keeps a partition's records, for a checkpoint."""

    job: str
    checkpoint: str
    topic: str
    partition: int


class Log(Protocol):
    """The partitions that jobs read and write. All raise OctadError."""

    async def fence(self, job: str, token: int, topic: str, partition: int) -> None:
        """From then on no append in the job's name with a lower token, or none, is taken."""

    async def pin(self, job: str, checkpoint: str, topic: str, partition: int, offset: int) -> None:
        """The records from `offset` on stay, until each pin on them is released."""

    async def release(self, job: str, checkpoint: str, topic: str, partition: int) -> None:
        """That there is no such pin is no error."""

    async def pins(self) -> Sequence[Pin]:
        """All pins of this place's jobs."""


class Place(NamedTuple):
    """Where the checkpoints of some jobs are. `log` is None where S3 is all there is."""

    store: Store
    layout: Layout
    runtime: Runtime
    log: Log | None = None
    now: Callable[[], float] = time.time
    token: Callable[[], str] = lambda: os.urandom(8).hex()


class BucketStore:
    """A bucket of octad, or of any other S3 server with conditional writes."""

    def __init__(self, bucket: AsyncBucket) -> None:
        self._bucket = bucket

    async def read(self, key: str) -> Found | None:
        try:
            found = await self._bucket.get(key)
        except ObjectNotFound:
            return None
        return Found(found.data, found.info.etag)

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        return (await self._bucket.get(key, start=start, end=end)).data

    async def put(
        self, key: str, data: Bytes, *, if_match: str = "", if_none_match: str = ""
    ) -> str:
        try:
            done = await self._bucket.put(key, data, if_match=if_match, if_none_match=if_none_match)
        except Refused as error:
            if error.code != "ConditionalRequestConflict":  # AWS: two at the same time.
                raise
            raise ConditionFailed(
                str(error), error.fix, code=error.code, status=error.status, request_id=""
            ) from error
        return done.etag

    async def copy(self, source: str, key: str) -> None:
        await self._bucket.copy(source, key)

    async def delete(self, keys: Sequence[str]) -> None:
        for failure in await self._bucket.delete_many(keys):
            raise OctadError(f"{failure.key} was not deleted ({failure.code})", failure.message)

    async def list(self, prefix: str) -> AsyncGenerator[Listed, None]:
        async for each in self._bucket.list(prefix):
            yield Listed(each.key, each.size)
