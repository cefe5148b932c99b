"""`octad.ObspecStore`: a bucket behind the Protocols of obspec, for libraries that take any store.

obspec itself is not imported. Its pairs (`get`, `get_async`) are the SDK's two faces: the first
over blocking sockets, the second on the loop that runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO, TYPE_CHECKING
from weakref import finalize

from octad.client.adapters import obspec_calls
from octad.client.adapters.obspec_results import Result
from octad.client.adapters.two_faces import TwoFaces
from octad.client.calls.settings import DEADLINE_S
from octad.client.http.blocking import drive, iterate
from octad.client.objects.async_bucket import AsyncBucket

if TYPE_CHECKING:
    from obspec import Attributes, GetOptions, ListResult, ObjectMeta, PutMode, PutResult
    from typing_extensions import Buffer


class ObspecStore:
    """The objects of `bucket`; the other arguments are those of `octad.Client`."""

    def __init__(
        self,
        bucket: str,
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
        self._name = bucket
        self._faces = TwoFaces(
            endpoint,
            access_key,
            secret_key,
            coordinator,
            region=region,
            authority_file=authority_file,
            deadline=deadline,
            hedge=hedge,
        )
        finalize(self, self._faces.close)

    def __repr__(self) -> str:
        return f"ObspecStore({self._name!r})"

    # The pairs.

    def get(self, path: str, *, options: GetOptions | None = None) -> Result:
        return drive(obspec_calls.get(self._here, path, options))

    async def get_async(self, path: str, *, options: GetOptions | None = None) -> Result:
        return await obspec_calls.get(self._on_loop, path, options)

    def get_range(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> bytes:
        return drive(obspec_calls.get_range(self._here, path, start, end, length))

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> bytes:
        return await obspec_calls.get_range(self._on_loop, path, start, end, length)

    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Sequence[bytes]:
        return drive(obspec_calls.get_ranges(self._here, path, starts, ends, lengths))

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Sequence[bytes]:
        return await obspec_calls.get_ranges(self._on_loop, path, starts, ends, lengths)

    def head(self, path: str) -> ObjectMeta:
        return drive(obspec_calls.head(self._here, path))

    async def head_async(self, path: str) -> ObjectMeta:
        return await obspec_calls.head(self._on_loop, path)

    def put(
        self,
        path: str,
        file: IO[bytes] | Path | bytes | Buffer | Iterator[Buffer] | Iterable[Buffer],
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = 0,
        max_concurrency: int = 0,
    ) -> PutResult:
        """How it goes up is the SDK's own choice: the last three arguments change nothing."""
        return drive(obspec_calls.put(self._here, path, file, attributes, tags, mode))

    async def put_async(
        self,
        path: str,
        file: IO[bytes]
        | Path
        | bytes
        | Buffer
        | AsyncIterator[Buffer]
        | AsyncIterable[Buffer]
        | Iterator[Buffer]
        | Iterable[Buffer],
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = 0,
        max_concurrency: int = 0,
    ) -> PutResult:
        """Like `put`."""
        return await obspec_calls.put(self._on_loop, path, file, attributes, tags, mode)

    def list(
        self, prefix: str | None = None, *, offset: str | None = None
    ) -> Iterator[Sequence[ObjectMeta]]:
        return iterate(obspec_calls.chunks(self._here, prefix, offset))

    async def list_async(
        self, prefix: str | None = None, *, offset: str | None = None
    ) -> AsyncIterator[Sequence[ObjectMeta]]:
        async with aclosing(obspec_calls.chunks(self._on_loop, prefix, offset)) as chunks:
            async for chunk in chunks:
                yield chunk

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        return drive(obspec_calls.in_folder(self._here, prefix))

    async def list_with_delimiter_async(
        self, prefix: str | None = None
    ) -> ListResult[Sequence[ObjectMeta]]:
        return await obspec_calls.in_folder(self._on_loop, prefix)

    def copy(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        drive(obspec_calls.copy(self._here, from_, to, overwrite))

    async def copy_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        await obspec_calls.copy(self._on_loop, from_, to, overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """A copy, and then a deletion."""
        self.copy(from_, to, overwrite=overwrite)
        self.delete(from_)

    async def rename_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Like `rename`."""
        await self.copy_async(from_, to, overwrite=overwrite)
        await self.delete_async(from_)

    def delete(self, paths: str | Sequence[str]) -> None:
        drive(obspec_calls.delete(self._here, paths))

    async def delete_async(self, paths: str | Sequence[str]) -> None:
        await obspec_calls.delete(self._on_loop, paths)

    def close(self) -> None:
        """Let go of all connections; call it on the event loop, where one was used."""
        self._faces.close()

    @property
    def _here(self) -> AsyncBucket:
        return self._faces.blocking.bucket(self._name)

    @property
    def _on_loop(self) -> AsyncBucket:
        return self._faces.on_loop.bucket(self._name)
