"""Reading in parallel: ranges of one version of an object, into memory or into a file."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final
from zlib import crc32

from octad.client.calls.caller import Caller
from octad.client.calls.requests import LARGE_BYTES, Request
from octad.client.errors import Damaged, DownloadFailed
from octad.client.objects.headers import range_header
from octad.client.objects.results import ObjectInfo
from octad.client.objects.verification import Verifier
from octad.sharding.limits import MIB

RANGE_BYTES: Final = 8 * MIB
AT_ONCE: Final = 4
RANGES_AT_ONCE: Final = 16
UNFINISHED: Final = ".part"  # How the names of files end that are not whole yet.

Job = Callable[[], Coroutine[Any, Any, bytes]]
Progress = Callable[[int], None]  # Told how many bytes more have come.


async def read_ranges(
    caller: Caller,
    bucket: str,
    key: str,
    ranges: Sequence[tuple[int, int]],
    deadline_s: float | None,
) -> list[bytes]:
    """In the order of `ranges`. The first one decides which version of the object all are of."""
    if not ranges:
        return []
    request = _range_request(bucket, key, *ranges[0], etag="")
    first = await caller.whole(request, deadline_s)
    etag = first.head.headers.get("etag", "")
    jobs = _jobs(caller, bucket, key, ranges[1:], etag, deadline_s)
    async with aclosing(caller.runtime.in_order(jobs, RANGES_AT_ONCE)) as results:
        return [first.body, *[piece async for piece in results]]


async def download(
    caller: Caller,
    bucket: str,
    key: str,
    path: str | PathLike[str],
    deadline_s: float | None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> ObjectInfo:
    """Into a file beside `path`, which takes its place at the end. Raises DownloadFailed."""
    request = Request("HEAD", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})
    answer = await caller.whole(request, deadline_s)
    info = ObjectInfo.of_headers(key, answer.head.headers)
    verifier = Verifier(key, answer.head.headers)
    resume = resume and info.size > RANGE_BYTES
    token = f"{crc32(info.etag.encode()):08x}" if resume else os.urandom(4).hex()
    unfinished = f"{os.fspath(path)}.{token}{UNFINISHED}"
    aside = caller.runtime.aside
    progress = progress or _unseen
    try:
        file = await aside(partial(_opened, unfinished, resume=resume))
        try:
            done = await aside(partial(_taken_up, file, verifier, info.size))
            progress(done)
            ranges = _ranges_from(done, info.size)
            jobs = _jobs(caller, bucket, key, ranges, f'"{info.etag}"', deadline_s)
            async with aclosing(caller.runtime.in_order(jobs, AT_ONCE)) as results:
                async for piece in results:
                    await aside(partial(_write, file, verifier, piece))
                    progress(len(piece))
            verifier.finish()
            await aside(file.flush)  # A disk that is full says so here, before the name is given.
            await aside(partial(os.replace, unfinished, path))
        finally:
            await aside(file.close)
    except BlockingIOError as error:
        raise DownloadFailed(
            f"{os.fspath(path)} is being downloaded by another one already",
            "wait until that is done",
        ) from error
    except OSError as error:
        await aside(partial(_remove, unfinished))
        raise DownloadFailed(
            f"{os.fspath(path)} could not be written: {error.strerror or error}",
            "make room or choose another place, then download again",
        ) from error
    except BaseException as error:
        if not resume or isinstance(error, Damaged):
            await aside(partial(_remove, unfinished))
        raise
    return info


def _unseen(size_bytes: int) -> None:
    """No one looks at the progress."""


def _ranges_from(start: int, size: int) -> list[tuple[int, int]]:
    return [(at, min(at + RANGE_BYTES, size)) for at in range(start, size, RANGE_BYTES)]


def _opened(path: str, *, resume: bool) -> BinaryIO:
    """What is to be taken up has one writer. Raises BlockingIOError where there is another."""
    if not resume:
        return open(path, "xb")
    from fcntl import LOCK_EX, LOCK_NB, flock

    file = open(path, "a+b")  # noqa: SIM115 (its caller closes it)
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def _taken_up(file: BinaryIO, verifier: Verifier, size: int) -> int:
    """How many bytes are there from an earlier time: whole ranges, whatever was cut off there."""
    there = os.fstat(file.fileno()).st_size
    whole = min(there - there % RANGE_BYTES, size)
    file.seek(0)
    for _ in range(0, whole, RANGE_BYTES):
        verifier.update(file.read(RANGE_BYTES))
    if whole < there:
        file.truncate(whole)
    return whole


def _remove(path: str) -> None:
    with suppress(OSError):
        Path(path).unlink()


def _write(file: BinaryIO, verifier: Verifier, piece: bytes) -> None:
    verifier.update(piece)
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]


async def _jobs(
    caller: Caller,
    bucket: str,
    key: str,
    ranges: Iterable[tuple[int, int]],
    etag: str,
    deadline_s: float | None,
) -> AsyncGenerator[Job, None]:
    for start, end in ranges:
        yield partial(_read, caller, bucket, key, start, end, etag, deadline_s)


async def _read(
    caller: Caller,
    bucket: str,
    key: str,
    start: int,
    end: int,
    etag: str,
    deadline_s: float | None,
) -> bytes:
    request = _range_request(bucket, key, start, end, etag=etag)
    return (await caller.whole(request, deadline_s)).body


def _range_request(bucket: str, key: str, start: int, end: int, *, etag: str) -> Request:
    headers = {"range": range_header(start, end)}
    if etag:
        headers["if-match"] = etag
    large = end - start >= LARGE_BYTES
    return Request("GET", bucket, key, headers=headers, is_large=large)
