"""`Client`: the buckets of a cluster, without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from octad.client.calls.nodes import NodeState
from octad.client.calls.settings import DEADLINE_S
from octad.client.http.blocking import BlockingRuntime, drive, iterate
from octad.client.objects.async_client import AsyncClient
from octad.client.objects.bucket import Bucket
from octad.client.objects.results import BucketInfo


class Client:
    """A client of octad, or of any other S3 server.

    It is `AsyncClient` without `await`, in every argument and every error: the same code over
    sockets that block. It has no thread of its own, so it works after a fork, in notebooks and
    where an event loop runs. Several threads may use one client.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        coordinator: str | None = None,
        *,
        region: str | None = None,
        authority_file: str | None = None,
        deadline: float = DEADLINE_S,
        hedge: bool = False,
    ) -> None:
        self._client = AsyncClient(
            endpoint,
            access_key,
            secret_key,
            coordinator,
            region=region,
            authority_file=authority_file,
            deadline=deadline,
            hedge=hedge,
            runtime=BlockingRuntime(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections; a second time does nothing."""
        drive(self._client.close())

    @property
    def on_blocking_sockets(self) -> AsyncClient:
        """For `drive`, in the SDK's own modules."""
        return self._client

    def bucket(self, name: str) -> Bucket:
        """The objects of a bucket; nothing is asked for."""
        return Bucket(self._client.bucket(name))

    @property
    def nodes(self) -> list[NodeState]:
        """The nodes that it knows, and how each one does: its breaker, its limit, what is open."""
        return self._client.nodes

    def create_bucket(
        self,
        name: str,
        *,
        pool: str = "",
        strict: bool = False,
        deadline: float | None = None,
    ) -> Bucket:
        """Make a bucket, in the usual pool or in the one named. Raises BucketExists.

        `strict`: it refuses writes while a copy is missing.
        """
        making = self._client.create_bucket(name, pool=pool, strict=strict, deadline=deadline)
        return Bucket(drive(making))

    def delete_bucket(self, name: str, *, deadline: float | None = None) -> None:
        """Remove an empty bucket. Raises BucketNotEmpty, BucketNotFound."""
        drive(self._client.delete_bucket(name, deadline=deadline))

    def list_buckets(
        self, prefix: str = "", *, deadline: float | None = None
    ) -> Iterator[BucketInfo]:
        """The buckets of these keys' owner, by name."""
        return iterate(self._client.list_buckets(prefix, deadline=deadline))
