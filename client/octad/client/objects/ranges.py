"""Reading in parallel: ranges of one version of an object, into memory or into a file."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final

from octad.client.calls.caller import Caller
from octad.client.calls.requests import LARGE_BYTES, Request
from octad.client.errors import DownloadFailed
from octad.client.objects.headers import range_header
from octad.client.objects.results import ObjectInfo
from octad.client.objects.verification import Verifier
from octad.sharding.limits import MIB

RANGE_BYTES: Final = 8 * MIB
AT_ONCE: Final = 4
RANGES_AT_ONCE: Final = 16

Job = Callable[[], Coroutine[Any, Any, bytes]]


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
) -> ObjectInfo:
    """Into a file beside `path`, which takes its place at the end. Raises DownloadFailed."""
    request = Request("HEAD", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})
    answer = await caller.whole(request, deadline_s)
    info = ObjectInfo.of_headers(key, answer.head.headers)
    verifier = Verifier(key, answer.head.headers)
    ranges = [
        (start, min(start + RANGE_BYTES, info.size)) for start in range(0, info.size, RANGE_BYTES)
    ]
    jobs = _jobs(caller, bucket, key, ranges, f'"{info.etag}"', deadline_s)
    unfinished = f"{os.fspath(path)}.{os.urandom(4).hex()}.part"
    aside = caller.runtime.aside
    try:
        file = await aside(lambda: open(unfinished, "xb"))  # noqa: SIM115 (closed below)
        try:
            async with aclosing(caller.runtime.in_order(jobs, AT_ONCE)) as results:
                async for piece in results:
                    await aside(partial(_write, file, verifier, piece))
            verifier.finish()
        finally:
            await aside(file.close)
        await aside(partial(os.replace, unfinished, path))
    except OSError as error:
        await aside(partial(_remove, unfinished))
        raise DownloadFailed(
            f"{os.fspath(path)} could not be written: {error.strerror or error}",
            "make room or choose another place, then download again",
        ) from error
    except BaseException:
        await aside(partial(_remove, unfinished))
        raise
    return info


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
