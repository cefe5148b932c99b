"""obspec's calls, each written once for both faces of a bucket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from octad.client.adapters.obspec_results import (
    NotSupportedError,
    Result,
    as_obspec_says_it,
    meta_of,
    put_arguments,
    put_result_of,
)
from octad.client.objects.async_bucket import AsyncBucket
from octad.client.objects.results import ObjectInfo
from octad.client.objects.sources import Source
from octad.sharding.limits import LIST_KEYS_MAX

if TYPE_CHECKING:
    from obspec import Attributes, GetOptions, ListResult, ObjectMeta, PutMode, PutResult

_UNSUPPORTED = ("if_none_match", "if_unmodified_since", "if_modified_since", "version")


async def get(bucket: AsyncBucket, path: str, options: GetOptions | None) -> Result:
    wanted: Mapping[str, Any] = options or {}
    for name in _UNSUPPORTED:
        if wanted.get(name) is not None:
            raise NotSupportedError(f"{name} of a get is not supported; leave it out")
    start, end = _range_of(wanted.get("range"))
    with as_obspec_says_it():
        stream = bucket.stream(path, start=start, end=end, if_match=wanted.get("if_match") or "")
        return Result(await stream.__aenter__(), without_bytes=bool(wanted.get("head")))


async def get_range(
    bucket: AsyncBucket, path: str, start: int, end: int | None, length: int | None
) -> bytes:
    with as_obspec_says_it():
        return (await bucket.get(path, start=start, end=_end_of(start, end, length))).data


async def get_ranges(
    bucket: AsyncBucket,
    path: str,
    starts: Sequence[int],
    ends: Sequence[int] | None,
    lengths: Sequence[int] | None,
) -> Sequence[bytes]:
    if (ends is None) == (lengths is None):
        raise ValueError("either ends or lengths are to be given")
    if ends is None:
        ends = [start + length for start, length in zip(starts, lengths or (), strict=True)]
    with as_obspec_says_it():
        return await bucket.get_ranges(path, list(zip(starts, ends, strict=True)))


async def head(bucket: AsyncBucket, path: str) -> ObjectMeta:
    with as_obspec_says_it():
        return meta_of(await bucket.head(path))


async def put(
    bucket: AsyncBucket,
    path: str,
    file: object,
    attributes: Attributes | None,
    tags: Mapping[str, str] | None,
    mode: PutMode | None,
) -> PutResult:
    arguments = put_arguments(attributes)
    create = mode == "create"
    if create:
        arguments["if_none_match"] = "*"
    elif isinstance(mode, dict):
        arguments["if_match"] = mode.get("e_tag") or ""
        arguments["if_version"] = mode.get("version") or ""
    with as_obspec_says_it(create=create):
        return put_result_of(await bucket.put(path, cast(Source, file), tags=tags, **arguments))


async def chunks(
    bucket: AsyncBucket, prefix: str | None, offset: str | None
) -> AsyncGenerator[Sequence[ObjectMeta], None]:
    """Up to a thousand at a time."""
    chunk: list[ObjectMeta] = []
    with as_obspec_says_it():
        async with aclosing(bucket.list(_folder(prefix), start_after=offset or "")) as entries:
            async for entry in entries:
                chunk.append(meta_of(entry))
                if len(chunk) == LIST_KEYS_MAX:
                    yield chunk
                    chunk = []
    if chunk:
        yield chunk


async def in_folder(bucket: AsyncBucket, prefix: str | None) -> ListResult[Sequence[ObjectMeta]]:
    objects: list[ObjectMeta] = []
    prefixes: list[str] = []
    with as_obspec_says_it():
        async with aclosing(bucket.list_folder(_folder(prefix))) as entries:
            async for entry in entries:
                if isinstance(entry, ObjectInfo):
                    objects.append(meta_of(entry))
                else:
                    prefixes.append(entry.prefix.rstrip("/"))
    return {"common_prefixes": prefixes, "objects": objects}


async def copy(bucket: AsyncBucket, from_: str, to: str, overwrite: bool) -> None:
    with as_obspec_says_it(create=not overwrite):
        await bucket.copy(from_, to, if_none_match="" if overwrite else "*")


async def delete(bucket: AsyncBucket, paths: str | Sequence[str]) -> None:
    """Raises OSError."""
    with as_obspec_says_it():
        failures = await bucket.delete_many([paths] if isinstance(paths, str) else paths)
    if failures:
        raise OSError("; ".join(f"{each.key}: {each.code}: {each.message}" for each in failures))


def _folder(prefix: str | None) -> str:
    """A prefix is of whole parts of paths: "a" has "a/b" under it, not "ab"."""
    return f"{prefix.rstrip('/')}/" if prefix else ""


def _end_of(start: int, end: int | None, length: int | None) -> int:
    if end is not None:
        return end
    if length is None:
        raise ValueError("either end or length is to be given")
    return start + length


def _range_of(wanted: Any) -> tuple[int, int | None]:
    if wanted is None:
        return 0, None
    if isinstance(wanted, Mapping):
        return (-wanted["suffix"] if "suffix" in wanted else wanted["offset"]), None
    start, end = wanted
    return start, end
