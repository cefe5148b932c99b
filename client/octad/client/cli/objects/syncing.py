"""Implements `octad sync`: both sides are listed and compared before anything is done."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from octad.client.cli.access.connection import connected_async
from octad.client.cli.access.places import Place, S3Place, place_of, shown, shown_word
from octad.client.cli.transfers.carrier import Carrier, remove_files
from octad.client.cli.transfers.carrying import (
    How,
    announce,
    carried,
    dry_document,
    show_failures,
    to_the_end,
    told,
)
from octad.client.cli.transfers.differences import (
    differences,
    newer_or_of_another_size,
    too_much,
)
from octad.client.cli.transfers.etags import etag_of
from octad.client.cli.transfers.gathering import items_of, unreadable
from octad.client.cli.transfers.items import Failure, Item
from octad.client.cli.transfers.local_files import items_below
from octad.client.cli.transfers.patterns import Selection, is_pattern
from octad.client.cli.transfers.plan import as_folder, below, direction, plan_of
from octad.client.objects.async_client import AsyncClient
from octad.client.runtime.command import EXIT_USAGE, CommandError

AGAIN = "the same command goes on: what is there already is not carried again"

Listing = tuple[Sequence[Item], Sequence[Failure]]


def run_sync(arguments: argparse.Namespace) -> int:
    """Returns the exit code; raises CommandError."""
    source, target = (as_folder(place_of(word)) for word in (arguments.source, arguments.target))
    _check(source, target)
    selection = Selection.of(arguments.include, arguments.exclude)
    how = How(direction(source, target), arguments.json, arguments.dry_run, AGAIN)
    about = source if isinstance(source, S3Place) else target
    assert isinstance(about, S3Place)
    return to_the_end(_syncing(arguments, source, target, selection, how), about, AGAIN)


async def _syncing(
    arguments: argparse.Namespace, source: Place, target: Place, selection: Selection, how: How
) -> int:
    async with connected_async(arguments) as client:
        (items, failures), (there, unread) = await asyncio.gather(
            _listing(client, source), _listing(client, target)
        )
        changed = _ChangedByEtag(source, target) if arguments.checksum else newer_or_of_another_size
        found = await asyncio.to_thread(
            differences, items, there, selection, changed, delete=arguments.delete
        )
        plan = plan_of(source, target, found.carried)
        plan = plan._replace(failures=(*failures, *unread, *plan.failures))
        deletions = [below(target, name) for name in found.deleted]
        if failures and deletions:
            deletions = []
            reason = "not all of it could be read, so nothing is deleted"
            plan = plan._replace(failures=(*plan.failures, Failure(str(source), reason)))
        announce(source, target, plan, how)
        if how.dry_run:
            return _dry_end(plan.failures, dry_document(plan, how, deletions), deletions, how)
        if deletions and not arguments.yes and (reason := too_much(found)):
            raise _refused(arguments, target, reason)
        carrier = await carried(client, plan, how)
        gone = await _deleted(carrier, target, deletions) if arguments.delete else None
        return told(carrier, how, deleted=gone)


def _check(source: Place, target: Place) -> None:
    if isinstance(source, Path) and isinstance(target, Path):
        raise CommandError(
            "both folders are on this machine", "name one as s3://BUCKET/PREFIX", EXIT_USAGE
        )
    for place in (source, target):
        if isinstance(place, S3Place) and is_pattern(place.key):
            raise CommandError(
                f"{shown(place)} is a pattern", "name a folder, and use --include", EXIT_USAGE
            )
    if isinstance(source, S3Place) and isinstance(target, S3Place):
        one, other = str(source), str(target)
        if one.startswith(other) or other.startswith(one):
            raise CommandError(
                f"{shown(source)} and {shown(target)} lie in one another",
                "choose a target beside the source",
                EXIT_USAGE,
            )
    if isinstance(source, Path):
        try:
            if not source.is_dir():
                source.stat()
                raise CommandError(
                    f"{shown(source)} is no folder",
                    f"carry one file: octad cp {shown_word(source)} {shown_word(target)}",
                    EXIT_USAGE,
                )
        except OSError as error:
            raise unreadable(source, error) from error


async def _listing(client: AsyncClient, place: Place) -> Listing:
    if isinstance(place, S3Place):
        return await items_of(client.bucket(place.bucket), place.key), ()
    if not place.exists():  # Only of a target: the source was looked at.
        return (), ()
    return await asyncio.to_thread(items_below, place)


class _ChangedByEtag:
    """Reads files; what cannot be read is taken for changed, and fails when it is carried."""

    def __init__(self, source: Place, target: Place) -> None:
        self._source = source
        self._target = target

    def __call__(self, source: Item, target: Item) -> bool:
        if source.size != target.size:
            return True
        try:
            return self._etag(self._source, source) != self._etag(self._target, target)
        except OSError:
            return True

    def _etag(self, folder: Place, item: Item) -> str:
        return item.etag or etag_of(Path(str(below(folder, item.name))), item.size)


def _dry_end(
    failures: Sequence[Failure], document: str, deletions: Sequence[Place], how: How
) -> int:
    if how.as_json:
        print(document)
    else:
        for place in deletions:
            print(f"  {'delete':>14}  {shown(place)}")
        show_failures(failures)
    return 1 if failures else 0


def _refused(arguments: argparse.Namespace, target: Place, reason: str) -> CommandError:
    again = f"octad sync --delete {shown_word(arguments.source)} {shown_word(arguments.target)}"
    return CommandError(
        f"{shown(target)}: {reason}; nothing was done",
        f"look first: {again} --dry-run; if that is meant, add --yes",
    )


async def _deleted(carrier: Carrier, target: Place, deletions: Sequence[Place]) -> int:
    """At last, and only where all else is done: who reads the target misses nothing meanwhile."""
    if carrier.failures and deletions:
        reason = "nothing is deleted before all is carried"
        carrier.failures.append(Failure(str(target), reason))
        return 0
    in_bucket = [place for place in deletions if isinstance(place, S3Place)]
    files = [place for place in deletions if isinstance(place, Path)]
    done = carrier.progress.done
    gone = await carrier.delete(in_bucket) + remove_files(files, carrier.failures)
    carrier.progress.done = done
    if isinstance(target, Path):
        _remove_empty(target, files)
    return gone


def _remove_empty(target: Path, files: Sequence[Path]) -> None:
    """Folders from which all was deleted."""
    folders = {parent for file in files for parent in file.parents if target in parent.parents}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            folder.rmdir()
