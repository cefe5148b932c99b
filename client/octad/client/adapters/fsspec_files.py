"""Open files of `octad://`: read in ranges through fsspec's caches, written in parts.

What is written is there once the file is closed, all of it or nothing: a `with` that an exception
leaves stores nothing. Reading is of one version of the object, even where another one replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fsspec.asyn import AbstractAsyncStreamedFile, AsyncFileSystem
from fsspec.spec import AbstractBufferedFile

from octad.client.adapters.files import Files, as_files_say_it
from octad.client.errors import ConditionFailed, ObjectNotFound, OctadError
from octad.client.http.blocking import drive
from octad.client.objects.headers import target_of
from octad.client.objects.multipart import Upload
from octad.client.objects.sources import PART_BYTES, part_bytes

if TYPE_CHECKING:
    from octad.client.objects.streams import ObjectStream


class Writing:
    """A file on its way in. `options`: of `AsyncBucket.put`."""

    def __init__(self, files: Files, path: str, mode: str, options: Mapping[str, Any]) -> None:
        self._files = files
        self._path = path
        self._bucket, self._key = files.split(path)
        self._options = dict(options)
        if mode == "xb":
            self._options["if_none_match"] = "*"
        self._upload: Upload | None = None
        self._last = b""
        self._appended_at: int | None = None
        self._appends = mode == "ab"

    async def add(self, data: bytes, *, is_last: bool) -> None:
        """The next part; the last one waits for `finish`."""
        if self._appends:
            await self._append(data)
        elif is_last:
            self._last = data
        else:
            if self._upload is None:
                target = target_of(self._bucket.name, self._key, **self._options)
                self._upload = Upload(self._files.client.caller, target)
            with as_files_say_it(self._path):
                await self._upload.add(data)

    @property
    def part_bytes(self) -> int:
        """How many are collected for the next part."""
        return part_bytes(self._upload.parts + 1) if self._upload is not None else PART_BYTES

    async def finish(self) -> None:
        """Then the file is there. Raises OSError, OctadError."""
        if self._appends:
            return
        if self._upload is None:
            await self._files.pipe_file(self._path, self._last, **self._options)
            return
        with as_files_say_it(self._path):
            try:
                if self._last:
                    await self._upload.add(self._last)
                await self._upload.complete()
            except ConditionFailed as error:
                raise FileExistsError(f"{self._path}: {error}") from error
        self._files.forget(self._path)

    async def discard(self) -> None:
        """Nothing of it stays; where the cluster cannot be told, its parts do, and are no file."""
        if self._upload is not None:
            with suppress(OctadError):
                await self._upload.give_up()

    async def _append(self, data: bytes) -> None:
        if self._appended_at is None:
            try:
                self._appended_at = (await self._bucket.head(self._key)).size
            except ObjectNotFound:
                self._appended_at = 0
        with as_files_say_it(self._path):
            done = await self._bucket.append(self._key, data, offset=self._appended_at)
        self._appended_at = done.size
        self._files.forget(self._path)


class OctadFile(AbstractBufferedFile):  # type: ignore[misc]
    """For blocking code, opened for reading or writing bytes."""

    DEFAULT_BLOCK_SIZE = PART_BYTES

    def __init__(
        self, fs: AsyncFileSystem, path: str, mode: str, block_size: Any = None, **named: Any
    ) -> None:
        if mode != "rb":
            block_size = PART_BYTES  # S3 has a least size of parts.
        super().__init__(fs, path, mode, block_size, **named)

    def _initiate_upload(self) -> None:
        self._writing = Writing(self.fs.files, self.path, self.mode, self.kwargs)

    def _upload_chunk(self, final: bool = False) -> bool:
        drive(self._writing.add(self.buffer.getvalue(), is_last=final))
        self.blocksize = self._writing.part_bytes
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        drive(self._writing.finish())

    def discard(self) -> None:
        if self.offset is not None:
            drive(self._writing.discard())

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and self.writable():
            self.discard()
            self.closed = True
        super().__exit__(kind, *error)

    def _fetch_range(self, start: int, end: int) -> bytes:
        files: Files = self.fs.files
        return drive(files.cat_file(self.path, start, end, if_match=self.details["ETag"]))


class OctadAsyncFile(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """For a running loop. It is read as a stream, and where one seeks, from there on."""

    def __init__(self, fs: AsyncFileSystem, path: str, mode: str, **named: Any) -> None:
        named.pop("block_size", None)
        super().__init__(fs, path, mode, PART_BYTES, cache_type="none", **named)
        self._stream: ObjectStream | None = None
        self._stream_at = 0

    async def _initiate_upload(self) -> None:
        self._writing = Writing(self.fs.files_on_loop, self.path, self.mode, self.kwargs)

    async def _upload_chunk(self, final: bool = False) -> bool:
        await self._writing.add(self.buffer.getvalue(), is_last=final)
        self.blocksize = self._writing.part_bytes
        if final:
            await self._writing.finish()
        return True

    async def _fetch_range(self, start: int, end: int) -> bytes:
        with as_files_say_it(self.path):
            if self._stream is None or self._stream_at != start:
                self._leave()
                bucket, key = self.fs.files_on_loop.split(self.path)
                self._stream = await bucket.stream(key, start=start).__aenter__()
            data = await self._stream.read(end - start)
        self._stream_at = start + len(data)
        return data

    async def close(self) -> None:
        self._leave()
        await super().close()

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and self.mode != "rb":
            if self.offset is not None:
                await self._writing.discard()
            self.closed = True
        await self.close()

    def _leave(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
