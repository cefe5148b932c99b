"""Heads, pages and manifests as objects: read, checked, and swapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules.documents import (
    FORMAT,
    Head,
    Kept,
    KeptPage,
    Manifest,
    Page,
    opened,
    sealed,
)
from octad.client.checkpoints.rules.errors import CheckpointDamaged
from octad.client.checkpoints.rules.heads import PAGE_KEPT_MAX, KeptList, overflow, owner
from octad.client.errors import ConditionFailed, Unavailable


class Standing(NamedTuple):
    """A head that was read or written, and the ETag that a swap of it names."""

    head: Head
    etag: str


async def read_head(place: Place, job: str) -> Standing | None:
    """Raises CheckpointDamaged, CheckpointTooNew."""
    key = place.layout.head(job)
    found = await place.store.read(key)
    if found is None:
        return None
    return Standing(opened(found.data, Head, key), found.etag)


async def swap(
    place: Place, job: str, standing: Standing | None, head: Head, is_mine: Callable[[Head], bool]
) -> tuple[bool, Standing | None]:
    """Whether `head` stands in the place of `standing`, and what stands there.

    Raises Unavailable where that cannot be known: the swap may have been done, or still be.
    """
    key = place.layout.head(job)
    condition = {"if_none_match": "*"} if standing is None else {"if_match": standing.etag}
    try:
        return True, Standing(head, await place.store.put(key, sealed(head), **condition))
    except ConditionFailed:
        there = await read_head(place, job)
    except Unavailable as error:
        if not error.outcome_unknown:
            raise
        there = await read_head(place, job)
        if there == standing:
            raise
    if there is not None and is_mine(there.head):
        return True, there
    return False, there


async def read_manifest(place: Place, job: str, checkpoint: str) -> Manifest:
    """Raises CheckpointDamaged, CheckpointTooNew."""
    key = place.layout.manifest(job, checkpoint)
    found = await place.store.read(key)
    if found is None:
        raise CheckpointDamaged(
            f"{key} is missing, and so is checkpoint {checkpoint}",
            "restore another one: octad checkpoint ls",
            key=key,
        )
    return opened(found.data, Manifest, key)


async def read_kept(place: Place, head: Head) -> KeptList:
    """Raises CheckpointDamaged."""
    pages = [(page, await _read_page(place, head, page)) for page in head.pages]
    return KeptList(tuple(pages), head.kept)


async def _read_page(place: Place, head: Head, page: Page) -> tuple[Kept, ...]:
    key = place.layout.page(head.job, page.name)
    found = await place.store.read(key)
    if found is None:
        raise CheckpointDamaged(
            f"{key} is missing, with {page.count} older entries of job {head.job}'s kept list",
            "newer checkpoints still restore: octad checkpoint ls",
            key=key,
        )
    return opened(found.data, KeptPage, key).kept


async def with_room(place: Place, head: Head) -> Head:
    """`head` with no more entries than it may hold; older ones are in pages, which are written."""
    moved, left = overflow(head.kept)
    if not moved:
        return head
    pages = head.pages
    if pages and pages[-1].count + len(moved) <= PAGE_KEPT_MAX:
        moved = (*await _read_page(place, head, pages[-1]), *moved)
        pages = pages[:-1]
    return replace(head, pages=(*pages, await _write_page(place, head, moved)), kept=left)


async def with_changed(
    place: Place, head: Head, before: KeptList, change: Callable[[Sequence[Kept]], tuple[Kept, ...]]
) -> Head:
    """`head` with `change` applied to each part of its kept list; changed pages are written."""
    pages = []
    for page, kept in before.pages:
        after = change(kept)
        if after == kept:
            pages.append(page)
        elif after:
            pages.append(await _write_page(place, head, after))
    return replace(head, pages=tuple(pages), kept=change(before.kept))


async def _write_page(place: Place, head: Head, kept: tuple[Kept, ...]) -> Page:
    """Named after the present begin, so that no collector takes it before the head names it."""
    name = f"{place.token()}.{owner(head)}"
    document = KeptPage(format=FORMAT, kept=kept)
    await place.store.put(place.layout.page(head.job, name), sealed(document))
    return Page(name, len(kept))
