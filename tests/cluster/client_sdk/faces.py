"""The two faces of the SDK behind one: a test's body is written once, and awaited with either.

`Awaited` gives a synchronous client the shape of the asynchronous one: its calls are carried out
when they are awaited, and its iterators can be used with `async for`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from octad import AsyncClient, Bucket, Client
from octad.client.objects.bucket import BlockingStream

Open = Callable[..., AsyncClient]


class Awaited:
    """A `Client`, `Bucket` or stream as an asynchronous one."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._blocking, name)
        if not callable(found):
            return found
        if name in ("bucket", "stream"):
            return lambda *given, **named: Awaited(found(*given, **named))
        if name.startswith("list"):
            return lambda *given, **named: _iterated(found(*given, **named))

        async def call(*given: Any, **named: Any) -> Any:
            result = found(*given, **named)
            return Awaited(result) if isinstance(result, Bucket) else result

        return call

    async def __aenter__(self) -> Any:
        self._blocking.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._blocking.__exit__(*error)

    def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._blocking, BlockingStream)
        return _iterated(iter(self._blocking))


async def _iterated(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def open_async(*given: Any, **named: Any) -> AsyncClient:
    return AsyncClient(*given, **named)


def open_blocking(*given: Any, **named: Any) -> AsyncClient:
    return cast(AsyncClient, Awaited(Client(*given, **named)))
