"""`octad://` for fsspec, and so for pandas, dask, zarr, pyarrow and all that opens URLs with it.

Its blocking methods are the SDK's over blocking sockets: no loop in a thread, so a fork finds
nothing half-done. Its coroutines (`_cat_file`, `open_async`) are the SDK's on the loop that runs.
Nothing is remembered of listings unless `use_listings_cache=True` asks for it.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar
from weakref import finalize

from fsspec.asyn import AsyncFileSystem, get_loop

from octad.client.adapters.files import Entry, Files
from octad.client.adapters.fsspec_files import OctadAsyncFile, OctadFile
from octad.client.adapters.two_faces import TwoFaces
from octad.client.calls.settings import DEADLINE_S
from octad.client.http.blocking import drive

# Methods that fsspec has in both faces, `name` and `_name`, with the arguments of `Files`.
_IN_BOTH_FACES = (
    "cat_file", "cat_ranges", "cp_file", "exists", "get_file", "info", "isdir", "isfile", "ls",
    "makedirs", "mkdir", "modified", "pipe_file", "put_file", "rm_file", "rmdir", "sign",
)  # fmt: skip


class OctadFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """Paths are `octad://bucket/key`; the arguments are those of `octad.Client`.

    `asynchronous`: its coroutines will be awaited. They may be, either way.
    """

    protocol: ClassVar[str] = "octad"
    mirror_sync_methods = False
    root_marker = ""

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
        asynchronous: bool = False,
        use_listings_cache: bool = False,
        **options: Any,
    ) -> None:
        # So that fsspec begins no thread.
        super().__init__(asynchronous=True, use_listings_cache=use_listings_cache, **options)
        self.asynchronous = asynchronous
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
        self.files = Files(self._faces.blocking, self.dircache)
        finalize(self, self._faces.close)  # fsspec closes no filesystem.

    @property
    def files_on_loop(self) -> Files:
        return Files(self._faces.on_loop, self.dircache)

    @property
    def loop(self) -> AbstractEventLoop:
        """Of those who run coroutines in fsspec's thread; nothing here does."""
        found: AbstractEventLoop = get_loop()
        return found

    def close(self) -> None:
        """Let go of all connections; call it on the event loop, where one was used."""
        self._faces.close()

    def invalidate_cache(self, path: str | None = None) -> None:
        if path is None:
            self.dircache.clear()
        else:
            self.files.forget(self._strip_protocol(path))

    # Of several files.

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        paths = self.expand_path(path, recursive=recursive, maxdepth=maxdepth)
        drive(self.files.remove(paths, marks=recursive))

    async def _rm(self, path: Any, recursive: bool = False, **named: Any) -> None:
        paths = await self._expand_path(path, recursive=recursive, **named)
        await self.files_on_loop.remove(paths, marks=recursive)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **named: Any,
    ) -> Any:
        if not self._strip_protocol(path) or maxdepth is not None or withdirs:
            return super().find(path, maxdepth, withdirs, detail, **named)
        return _shown(drive(self.files.files_under(path, prefix)), detail)

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **named: Any,
    ) -> Any:
        if not self._strip_protocol(path) or maxdepth is not None or withdirs:
            return await super()._find(path, maxdepth, withdirs, detail=detail, **named)
        return _shown(await self.files_on_loop.files_under(path, prefix), detail)

    # Open files.

    def _open(self, path: str, mode: str = "rb", **named: Any) -> OctadFile:
        return OctadFile(self, self._strip_protocol(path), mode, **named)

    async def open_async(self, path: str, mode: str = "rb", **named: Any) -> OctadAsyncFile:
        """A file whose `read`, `write` and `close` are awaited: read from begin to end."""
        if mode == "rb":
            named["size"] = (await self.files_on_loop.info(path))["size"]
        return OctadAsyncFile(self, self._strip_protocol(path), mode, **named)


def _shown(found: dict[str, Entry], detail: bool) -> dict[str, Entry] | list[str]:
    return found if detail else list(found)


def _blocking(name: str) -> Callable[..., Any]:
    coroutine = getattr(Files, name)

    @wraps(coroutine)
    def call(self: OctadFileSystem, *given: Any, **named: Any) -> Any:
        return drive(coroutine(self.files, *given, **named))

    return call


def _awaited(name: str) -> Callable[..., Any]:
    coroutine = getattr(Files, name)

    @wraps(coroutine)
    async def call(self: OctadFileSystem, *given: Any, **named: Any) -> Any:
        return await coroutine(self.files_on_loop, *given, **named)

    return call


for _name in _IN_BOTH_FACES:
    setattr(OctadFileSystem, _name, _blocking(_name))
    setattr(OctadFileSystem, f"_{_name}", _awaited(_name))
