"""`AsyncClient`: the buckets of a cluster. `Client` is the same without `await`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from octad.client.calls.caller import Caller
from octad.client.calls.nodes import NodeState
from octad.client.calls.requests import Request, new_invocation
from octad.client.calls.settings import DEADLINE_S, settings_of
from octad.client.http.transport import Runtime
from octad.client.objects.async_bucket import AsyncBucket
from octad.client.objects.results import BucketInfo


class AsyncClient:
    """A client of octad, or of any other S3 server, for asyncio.

    What is not given is taken from the environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_CA_BUNDLE, OCTAD_COORDINATOR. `endpoint` and
    `coordinator` are URLs; of several, separated by commas, any will do. With a coordinator each
    request goes straight to the node that answers it.

    `deadline`: seconds for each call, retries included, unless the call says otherwise. `hedge`:
    a read that is later than 95 of 100 goes to a second node, and the first answer counts.

    Proxies are those of http_proxy, https_proxy and no_proxy, but never on the way to this machine.

    It makes connections when they are needed, and none is left when it has been closed (`async
    with`, or `close`). It may be used on one event loop after the other. Raises ConfigurationError.
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
        runtime: Runtime | None = None,
    ) -> None:
        settings = settings_of(
            endpoint,
            access_key,
            secret_key,
            coordinator=coordinator,
            region=region,
            authority_file=authority_file,
            deadline_s=deadline,
            hedge=hedge,
        )
        if runtime is None:
            from octad.client.http.on_asyncio import AsyncioRuntime

            runtime = AsyncioRuntime()
        self.caller = Caller(settings, runtime)  # For the SDK's own modules.

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections; a second time does nothing."""
        self.caller.close()

    def bucket(self, name: str) -> AsyncBucket:
        """The objects of a bucket; nothing is asked for."""
        return AsyncBucket(self.caller, name)

    @property
    def nodes(self) -> list[NodeState]:
        """The nodes that it knows, and how each one does: its breaker, its limit, what is open."""
        return self.caller.node_states()

    async def create_bucket(
        self,
        name: str,
        *,
        pool: str = "",
        strict: bool = False,
        deadline: float | None = None,
    ) -> AsyncBucket:
        """Make a bucket, in the usual pool or in the one named. Raises BucketExists.

        `strict`: it refuses writes while a copy is missing.
        """
        from octad.client.calls.documents import location_document

        request = Request(
            "PUT",
            name,
            headers={"x-octad-strict": "true"} if strict else None,
            body=location_document(pool) if pool else b"",
            invocation=new_invocation(),
        )
        await self.caller.whole(request, deadline)
        return self.bucket(name)

    async def delete_bucket(self, name: str, *, deadline: float | None = None) -> None:
        """Remove an empty bucket. Raises BucketNotEmpty, BucketNotFound."""
        request = Request("DELETE", name, invocation=new_invocation())
        await self.caller.whole(request, deadline)

    async def list_buckets(
        self, prefix: str = "", *, deadline: float | None = None
    ) -> AsyncGenerator[BucketInfo, None]:
        """The buckets of these keys' owner, by name."""
        from octad.client.objects.listing import list_buckets

        async for bucket in list_buckets(self.caller, prefix, deadline):
            yield bucket
