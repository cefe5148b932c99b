"""Carries files and objects, many at a time: uploads, downloads, copies inside the cluster.

What fails for one of them is noted and the rest goes on; what would fail for all of them (no
connection, wrong keys, no bucket, a full disk) ends it at once.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from octad.client.cli.access.places import S3Place, shown
from octad.client.cli.transfers.items import Failure
from octad.client.cli.transfers.local_files import write_whole
from octad.client.cli.transfers.plan import Transfer
from octad.client.cli.transfers.progress import Progress
from octad.client.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigurationError,
    DownloadFailed,
    OctadError,
    StorageFull,
    Unavailable,
)
from octad.client.objects.async_client import AsyncClient
from octad.client.objects.sources import SINGLE_PUT_BYTES_MAX
from octad.sharding.limits import LIST_KEYS_MAX, MIB

SMALL_BYTES_MAX: Final = MIB  # In memory as a whole.
AT_ONCE: Final = 48
LARGE_AT_ONCE: Final = 4  # Each has several parts in memory.
_FOR_ALL: Final = (AccessDenied, BucketNotFound, ConfigurationError, StorageFull, Unavailable)
_DISK_FOR_ALL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class Carrier:
    """Of one command. `failures` grows while it works. `moves`: the source is removed after."""

    def __init__(self, client: AsyncClient, progress: Progress, *, moves: bool = False) -> None:
        self.failures: list[Failure] = []
        self._client = client
        self.progress = progress
        self._moves = moves
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._folders: set[str] = set()

    async def carry(self, transfers: Sequence[Transfer]) -> None:
        """Raises OctadError, OSError for what is wrong with all of them."""
        await self._each(iter(transfers), len(transfers))

    async def delete(self, places: Iterable[S3Place]) -> int:
        """Objects of one or more buckets; returns how many are gone."""
        by_bucket: dict[str, list[str]] = {}
        for place in places:
            by_bucket.setdefault(place.bucket, []).append(place.key)
        gone = 0
        for name, keys in by_bucket.items():
            for at in range(0, len(keys), LIST_KEYS_MAX):
                batch = keys[at : at + LIST_KEYS_MAX]
                failed = await self._client.bucket(name).delete_many(batch)
                gone += len(batch) - len(failed)
                self.progress.done += len(batch)
                self.failures += [
                    Failure(str(S3Place(name, each.key)), f"{each.code}: {each.message}")
                    for each in failed
                ]
        return gone

    async def _each(self, transfers: Iterator[Transfer], count: int) -> None:
        """All of them by some tasks; what is wrong with all ends the others, too."""

        async def worker() -> None:
            for transfer in transfers:
                await self._one(transfer)

        tasks = [asyncio.create_task(worker()) for _ in range(min(AT_ONCE, count))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, transfer: Transfer) -> None:
        try:
            if transfer.size <= SMALL_BYTES_MAX:
                await self._carried(transfer)
            else:
                async with self._large:
                    await self._carried(transfer)
            if self._moves:
                await self._remove_source(transfer)
        except _FOR_ALL:
            raise
        except (OctadError, OSError) as error:
            cause = error.__cause__ if isinstance(error, DownloadFailed) else error
            if isinstance(cause, OSError) and cause.errno in _DISK_FOR_ALL:
                raise
            reason = error.strerror if isinstance(error, OSError) else ""
            self.failures.append(Failure(str(transfer.source), reason or str(error)))
        else:
            self.progress.done += 1

    async def _carried(self, transfer: Transfer) -> None:
        source, target = transfer.source, transfer.target
        if isinstance(target, Path):
            assert isinstance(source, S3Place)
            await self._download(source, target, transfer)
        elif isinstance(source, Path):
            await self._upload(source, target, transfer.size)
        else:
            bucket = self._client.bucket(target.bucket)
            await bucket.copy(source.key, target.key, source_bucket=source.bucket)
            self.progress.add_bytes(transfer.size)

    async def _upload(self, source: Path, target: S3Place, size: int) -> None:
        bucket = self._client.bucket(target.bucket)
        content_type = mimetypes.guess_type(source.name)[0] or ""
        with source.open("rb", buffering=0) as file:
            if size <= SMALL_BYTES_MAX:
                data = file.read(SMALL_BYTES_MAX + 1)
                if len(data) <= SMALL_BYTES_MAX:  # Else it has grown since it was counted.
                    await bucket.put(target.key, data, content_type=content_type)
                    self.progress.add_bytes(len(data))
                    return
                file.seek(0)
            await bucket.put(
                target.key,
                _CountedFile(file, self.progress),
                content_type=content_type,
                resume=size > SINGLE_PUT_BYTES_MAX,
            )

    async def _download(self, source: S3Place, target: Path, transfer: Transfer) -> None:
        bucket = self._client.bucket(source.bucket)
        folder = os.fspath(target.parent)
        if folder not in self._folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        if transfer.size <= SMALL_BYTES_MAX:
            found = await bucket.get(source.key)
            write_whole(os.fspath(target), found.data, transfer.modified_s)
            self.progress.add_bytes(len(found.data))
        else:
            await bucket.download(source.key, target, resume=True, progress=self.progress.add_bytes)
            os.utime(target, (transfer.modified_s, transfer.modified_s))

    async def _remove_source(self, transfer: Transfer) -> None:
        source = transfer.source
        if isinstance(source, Path):
            now = source.stat()
            if (now.st_size, now.st_mtime) != (transfer.size, transfer.modified_s):
                raise OSError("it was written meanwhile, so it stays")
            source.unlink()
        else:  # Not what someone has put there since.
            bucket = self._client.bucket(source.bucket)
            await bucket.delete(source.key, if_match=transfer.etag)


class _CountedFile:
    """A file that tells how much of it was read, as the SDK reads its parts."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self.tell = file.tell
        self.seek = file.seek

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._progress.add_bytes(len(data))
        return data


def remove_files(paths: Iterable[Path], failures: list[Failure]) -> int:
    """Returns how many are gone."""
    gone = 0
    for path in paths:
        try:
            path.unlink()
            gone += 1
        except OSError as error:
            failures.append(Failure(shown(path), error.strerror or str(error)))
    return gone
