"""Buckets and objects as folders and files, in the terms of fsspec, which this does not import.

    path      bucket/key, with or without octad:// before it; "" holds the buckets
    entry     {"name": path, "type": "file" or "directory", "size": bytes, …}

A folder is there as long as a key lies under it. An object whose key ends with a slash marks one,
and is not shown. Where an answer is no, the error is the one that a file system has for it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, MutableMapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from octad.client.errors import (
    AccessDenied,
    BucketExists,
    BucketNotEmpty,
    ConditionFailed,
    NotFound,
    OctadError,
    Refused,
)
from octad.client.objects.async_bucket import AsyncBucket
from octad.client.objects.async_client import AsyncClient
from octad.client.objects.results import CommonPrefix, ObjectInfo
from octad.client.objects.sources import Source

RANGES_AT_ONCE: Final = 16

Entry = dict[str, Any]
Job = Callable[[], Coroutine[Any, Any, bytes | Exception]]


@contextmanager
def as_files_say_it(path: str) -> Iterator[None]:
    """A refusal as the OSError that programs for files expect. Others are raised as they are."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except AccessDenied as error:
        raise PermissionError(f"{path}: {error}") from error
    except BucketExists as error:
        raise FileExistsError(f"{path}: {error}") from error
    except BucketNotEmpty as error:
        raise OSError(f"{path}: {error}") from error


class Files:
    """Of one client. `listings`: what is remembered of folders, by path, where that is wanted."""

    def __init__(self, client: AsyncClient, listings: MutableMapping[str, Sequence[Entry]]) -> None:
        self.client = client
        self._listings = listings

    # Looking.

    async def info(self, path: str, **_: object) -> Entry:
        """Raises FileNotFoundError."""
        bucket, key = self.split(path)
        if not bucket.name:
            return _folder("")
        with as_files_say_it(path):
            if not key:
                if await bucket.exists():
                    return _folder(bucket.name)
            else:
                try:
                    return _file(bucket.name, await bucket.head(key))
                except NotFound:
                    if await _holds_keys(bucket, key):
                        return _folder(f"{bucket.name}/{key}")
        raise FileNotFoundError(f"{path}: there is no such file or folder")

    async def exists(self, path: str, **_: object) -> bool:
        """Whether there is a file or a folder. Where no one can tell, that is raised."""
        try:
            await self.info(path)
        except FileNotFoundError:
            return False
        return True

    async def isfile(self, path: str) -> bool:
        return await self._is_a("file", path)

    async def isdir(self, path: str) -> bool:
        return await self._is_a("directory", path)

    async def modified(self, path: str) -> object:
        """When it was written last."""
        return (await self.info(path))["LastModified"]

    async def ls(
        self, path: str, detail: bool = True, refresh: bool = False, **_: object
    ) -> list[Entry] | list[str]:
        """What is in a folder; of a file, itself. Raises FileNotFoundError."""
        path = plain(path)
        found = None if refresh else self._listings.get(path)
        if found is None:
            with as_files_say_it(path):
                found = await self._listed(path)
            self._listings[path] = found
        return list(found) if detail else [entry["name"] for entry in found]

    async def files_under(self, path: str, prefix: str = "") -> dict[str, Entry]:
        """All files below a folder, whose names there begin with `prefix`; of a file, itself."""
        bucket, key = self.split(path)
        found = {}
        with as_files_say_it(path):
            async with aclosing(bucket.list((f"{key}/" if key else "") + prefix)) as entries:
                async for entry in entries:
                    if not entry.key.endswith("/"):
                        file = _file(bucket.name, entry)
                        found[file["name"]] = file
        if not found and not prefix and await self.isfile(path):
            file = await self.info(path)
            found[file["name"]] = file
        return found

    # Reading.

    async def cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        if_match: str = "",
        **_: object,
    ) -> bytes:
        """Bytes from `start` to before `end`, each from the file's end where it is negative."""
        bucket, key = self.split(path)
        with as_files_say_it(path):
            if end is not None and (end < 0 or (start or 0) < 0):
                size = (await bucket.head(key)).size
                start, end = (_from_end(at, size) for at in (start or 0, end))
            if end is not None and end <= (start or 0):
                return b""
            try:
                return (await bucket.get(key, start=start or 0, end=end, if_match=if_match)).data
            except Refused as error:
                if error.code == "InvalidRange":  # It begins behind the end.
                    return b""
                raise

    async def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Sequence[int | None] | int | None,
        ends: Sequence[int | None] | int | None,
        max_gap: object = None,
        on_error: str = "return",
        **_: object,
    ) -> list[bytes | Exception]:
        """Ranges of files, in parallel. `on_error="return"`: errors stand where bytes would."""
        each_start = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        each_end = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(paths) == len(each_start) == len(each_end):
            raise ValueError("there must be a start and an end for each path")
        runtime = self.client.caller.runtime
        jobs = _range_jobs(self, paths, each_start, each_end)
        async with aclosing(runtime.in_order(jobs, RANGES_AT_ONCE)) as results:
            found = [result async for result in results]
        if on_error != "return":
            for result in found:
                if isinstance(result, Exception):
                    raise result
        return found

    async def get_file(self, path: str, target: str | BinaryIO, **_: object) -> None:
        """Into a local file, or into one that is open; of a folder, the folder is made."""
        bucket, key = self.split(path)
        aside = self.client.caller.runtime.aside
        with as_files_say_it(path):
            if not isinstance(target, str | os.PathLike):
                async with bucket.stream(key) as stream:
                    while piece := await stream.next_piece():
                        await aside(partial(target.write, piece))
                return
            try:
                await bucket.download(key, target)
            except NotFound:
                if not await self.isdir(path):
                    raise
                await aside(partial(os.makedirs, target, exist_ok=True))

    async def sign(self, path: str, expiration: int = 100, **_: object) -> str:
        """A URL with which anyone may read the file for `expiration` seconds."""
        bucket, key = self.split(path)
        return await bucket.presign(key, expires_s=expiration)

    # Writing.

    async def pipe_file(
        self, path: str, value: Source, mode: str = "overwrite", **options: Any
    ) -> None:
        """`mode="create"`: only where there is none. `options` are those of `AsyncBucket.put`."""
        bucket, key = self.split(path)
        if mode == "create":
            options["if_none_match"] = "*"
        with as_files_say_it(path):
            try:
                await bucket.put(key, value, **options)
            except ConditionFailed as error:
                raise FileExistsError(f"{path}: {error}") from error
        self.forget(path)

    async def put_file(
        self, source: str, path: str, callback: object = None, mode: str = "overwrite", **_: object
    ) -> None:
        """From a local file. There is nothing to be done for a folder."""
        if not await self.client.caller.runtime.aside(Path(source).is_dir):
            await self.pipe_file(path, Path(source), mode)

    async def cp_file(self, source: str, path: str, **_: object) -> None:
        """Inside the cluster."""
        bucket, key = self.split(path)
        from_bucket, from_key = self.split(source)
        with as_files_say_it(source):
            await bucket.copy(from_key, key, source_bucket=from_bucket.name)
        self.forget(path)

    async def rm_file(self, path: str, **_: object) -> None:
        """That it is not there is no error."""
        await self.remove([path])

    async def remove(self, paths: Sequence[str], *, marks: bool = False) -> None:
        """Files, and then buckets: folders go with what is in them. Raises OSError.

        `marks`: also the objects that mark a folder of that name.
        """
        keys: dict[str, list[str]] = {}
        buckets = []
        for path in paths:
            bucket, key = self.split(path)
            if key:
                keys.setdefault(bucket.name, []).extend((key, f"{key}/") if marks else (key,))
            elif bucket.name:
                buckets.append(bucket.name)
            self.forget(path)
        for name, each in keys.items():
            with as_files_say_it(name):
                for failure in await self.client.bucket(name).delete_many(each):
                    raise OSError(f"{name}/{failure.key}: {failure.code}: {failure.message}")
        for name in buckets:
            with as_files_say_it(name):
                await self.client.delete_bucket(name)

    async def mkdir(self, path: str, create_parents: bool = True, **_: object) -> None:
        """Makes the bucket; below it folders come with their files."""
        bucket, key = self.split(path)
        if key and not create_parents:
            return
        with as_files_say_it(path):
            if not await bucket.exists():  # To make one's own again is no error of S3.
                await self.client.create_bucket(bucket.name)
            elif not key:
                raise FileExistsError(f"{path}: the bucket is there already")
        self.forget(path)

    async def makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            await self.mkdir(path)
        except FileExistsError:
            if not exist_ok:
                raise

    async def rmdir(self, path: str) -> None:
        """Removes an empty bucket."""
        if not self.split(path)[1]:
            await self.remove([path])

    def forget(self, path: str) -> None:
        """What is remembered of the folders around `path`, which has changed."""
        path = plain(path)
        while True:
            self._listings.pop(path, None)
            if not path:
                return
            path = path.rpartition("/")[0]

    def split(self, path: str) -> tuple[AsyncBucket, str]:
        """The bucket and the key."""
        name, _, key = plain(path).partition("/")
        return self.client.bucket(name), key

    async def _is_a(self, kind: str, path: str) -> bool:
        try:
            return bool((await self.info(path))["type"] == kind)
        except FileNotFoundError:
            return False

    async def _listed(self, path: str) -> list[Entry]:
        bucket, key = self.split(path)
        if not bucket.name:
            return [_folder(each.name) async for each in self.client.list_buckets()]
        entries: list[Entry] = []
        marked = not key
        async with aclosing(bucket.list_folder(f"{key}/" if key else "")) as items:
            async for item in items:
                marked = True
                if isinstance(item, CommonPrefix):
                    entries.append(_folder(f"{bucket.name}/{item.prefix[:-1]}"))
                elif not item.key.endswith("/"):
                    entries.append(_file(bucket.name, item))
        return entries if marked else [await self.info(path)]


async def _holds_keys(bucket: AsyncBucket, folder: str) -> bool:
    async with aclosing(bucket.list(f"{folder}/")) as entries:
        async for _ in entries:
            return True
    return False


async def _range_jobs(
    files: Files,
    paths: Sequence[str],
    starts: Sequence[int | None],
    ends: Sequence[int | None],
) -> AsyncGenerator[Job, None]:
    async def range_or_error(path: str, start: int | None, end: int | None) -> bytes | Exception:
        try:
            return await files.cat_file(path, start, end)
        except (OSError, OctadError) as error:
            return error

    for path, start, end in zip(paths, starts, ends, strict=True):
        yield partial(range_or_error, path, start, end)


def plain(path: str) -> str:
    """Without octad:// before it, or a slash at its end."""
    return path.removeprefix("octad://").strip("/")


def _from_end(at: int, size: int) -> int:
    return max(at + size, 0) if at < 0 else at


def _folder(name: str) -> Entry:
    return {"name": name, "type": "directory", "size": 0}


def _file(bucket: str, info: ObjectInfo) -> Entry:
    return {
        "name": f"{bucket}/{info.key}",
        "type": "file",
        "size": info.size,
        "ETag": info.etag,
        "LastModified": info.modified,
        "ContentType": info.content_type,
    }
