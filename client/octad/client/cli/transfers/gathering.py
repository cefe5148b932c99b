"""Finds what the places on a command line mean, and counts it, before anything is carried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from octad.client.cli.access.places import Place, S3Place, shown, shown_word
from octad.client.cli.access.refusals import EXIT_NOT_THERE, not_there
from octad.client.cli.transfers.items import Failure, Item
from octad.client.cli.transfers.local_files import item_of, items_below
from octad.client.cli.transfers.patterns import fixed_part, is_pattern, matcher_of
from octad.client.cli.transfers.plan import Plan, as_folder, below, plan_of
from octad.client.errors import ObjectNotFound
from octad.client.objects.async_bucket import AsyncBucket
from octad.client.objects.async_client import AsyncClient
from octad.client.runtime.command import EXIT_USAGE, CommandError


class Gathered(NamedTuple):
    """`items` are below `base`. `single`: one was named, so its target may be its new name."""

    base: Place
    items: Sequence[Item]
    failures: Sequence[Failure]
    single: bool = False


async def gathered(client: AsyncClient, source: Place, *, recursive: bool) -> Gathered:
    """Raises CommandError where there is nothing, OctadError."""
    if isinstance(source, Path):
        return _local(source, recursive=recursive)
    bucket = client.bucket(source.bucket)
    if is_pattern(source.key):
        folder = fixed_part(source.key).rpartition("/")
        base = S3Place(source.bucket, folder[0] + folder[1])
        matches = matcher_of(source.key)
        found = [
            each async for each in listed(bucket, fixed_part(source.key)) if matches(each.name)
        ]
        items = [item._replace(name=item.name[len(base.key) :]) for item in found]
        if not items:
            raise not_there(source)
        return Gathered(base, items, ())
    if not recursive:
        return await _one(bucket, source)
    folder_place = as_folder(source)
    assert isinstance(folder_place, S3Place)
    items = await items_of(bucket, folder_place.key)
    if not items:
        if source.key and not source.key.endswith("/"):
            return await _one(bucket, source)
        raise not_there(source)
    return Gathered(folder_place, items, ())


async def items_of(bucket: AsyncBucket, prefix: str) -> list[Item]:
    """All objects below `prefix`, with what follows it as their names."""
    cut = len(prefix)
    return [item._replace(name=item.name[cut:]) async for item in listed(bucket, prefix)]


async def listed(bucket: AsyncBucket, prefix: str) -> AsyncIterator[Item]:
    """All objects whose keys begin with `prefix`, with whole keys as their names."""
    async with aclosing(bucket.list(prefix)) as found:
        async for info in found:
            yield Item(info.key, info.size, info.modified.timestamp(), info.etag)


def planned(found: Gathered, target: Place, *, into: bool) -> Plan:
    """`into`: `target` is a folder, whatever it looks like."""
    if found.single and not into:
        name = found.items[0].name
        plan = plan_of(found.base, target, found.items)
        named = [transfer._replace(target=_named(target, name)) for transfer in plan.transfers]
        return plan._replace(transfers=named)
    return plan_of(found.base, as_folder(target), found.items)


def _named(target: Place, name: str) -> Place:
    """A single file or object goes into a folder, or gets the name that was given."""
    if isinstance(target, S3Place):
        whole = target.key and not target.key.endswith("/")
        return target if whole else below(target, name)
    return target / name if target.is_dir() else target


def _local(source: Path, *, recursive: bool) -> Gathered:
    try:
        if source.is_dir():
            if not recursive:
                raise CommandError(
                    f"{shown(source)} is a folder", "carry all that is in it: add -r", EXIT_USAGE
                )
            items, failures = items_below(source)
            return Gathered(source, items, failures)
        return Gathered(source.parent, [item_of(source)], (), single=True)
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(path: Path, error: OSError) -> CommandError:
    """A file or folder that was named."""
    code = EXIT_NOT_THERE if isinstance(error, FileNotFoundError) else 1
    reason = error.strerror or str(error)
    return CommandError(
        f"{shown(path)} cannot be read: {reason}", f"see: ls -ld {shown_word(path)}", code
    )


async def _one(bucket: AsyncBucket, source: S3Place) -> Gathered:
    folder, slash, name = source.key.rpartition("/")
    if name:
        try:
            info = await bucket.head(source.key)
        except ObjectNotFound:
            pass
        else:
            item = Item(name, info.size, info.modified.timestamp(), info.etag)
            return Gathered(S3Place(source.bucket, folder + slash), [item], (), single=True)
    inner = as_folder(source)
    assert isinstance(inner, S3Place)
    async with aclosing(listed(bucket, inner.key)) as found:  # type: ignore[type-var]
        async for _ in found:
            raise CommandError(
                f"{shown(source)} is a folder", "carry all that is in it: add -r", EXIT_USAGE
            )
    raise not_there(source)
