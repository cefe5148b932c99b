"""One set of arguments, and a client with each face of them: for interfaces that have both."""

from __future__ import annotations

from functools import cached_property

from octad.client.calls.settings import DEADLINE_S
from octad.client.http.blocking import BlockingRuntime
from octad.client.http.transport import Runtime
from octad.client.objects.async_client import AsyncClient


class TwoFaces:
    """`blocking` is for `drive`; `on_loop`, made when it is asked for, for an event loop."""

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
        """The arguments of `AsyncClient`. Raises ConfigurationError."""

        def new_client(runtime: Runtime | None) -> AsyncClient:
            return AsyncClient(
                endpoint,
                access_key,
                secret_key,
                coordinator,
                region=region,
                authority_file=authority_file,
                deadline=deadline,
                hedge=hedge,
                runtime=runtime,
            )

        self._new_client = new_client
        self.blocking = new_client(BlockingRuntime())

    @cached_property
    def on_loop(self) -> AsyncClient:
        return self._new_client(None)

    def close(self) -> None:
        """Those of the blocking face, and of the loop that runs here; a second time is fine."""
        self.blocking.caller.close()
        if "on_loop" in vars(self):
            self.on_loop.caller.close()
