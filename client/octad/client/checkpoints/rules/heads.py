"""The head of a job: what each change makes of it, and whose it is once a write's end is unclear.

A head is replaced by compare-and-swap only. A swap without an answer, or refused, is looked up:
each writer knows its own by a nonce that nobody else has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from octad.client.checkpoints.rules.documents import FORMAT, Head, Kept, Offset, Page
from octad.client.checkpoints.rules.names import Owner

HEAD_KEPT_MAX: Final = 128  # More entries than that go to a page.
PAGED_AT_ONCE: Final = 64
PAGE_KEPT_MAX: Final = 1024


def owner(head: Head) -> Owner:
    """Under whose begin the head stands."""
    return Owner(head.epoch, head.nonce)


def begun(head: Head | None, job: str, nonce: str, change: str) -> Head:
    """The head once `nonce` has taken the job over, whatever stood there before."""
    if head is None:
        return Head(format=FORMAT, job=job, epoch=1, nonce=nonce, change=change)
    return replace(head, epoch=head.epoch + 1, nonce=nonce, change=change)


def reading(job: str, nonce: str, change: str, now: float) -> Head:
    """The head of someone who restores, and is no job."""
    return Head(format=FORMAT, job=job, epoch=1, nonce=nonce, change=change, reader_since=now)


def committed(head: Head, kept: Kept, change: str) -> Head:
    """The head once `kept` is the newest checkpoint."""
    return replace(
        head,
        change=change,
        id=kept.id,
        previous=head.id,
        offsets=kept.offsets,
        kept=(*head.kept, kept),
    )


def has_committed(head: Head, checkpoint: str) -> bool:
    """Whether a head that was read shows that the swap with `checkpoint` was done."""
    return checkpoint in (head.id, head.previous) or any(
        checkpoint == each.id for each in head.kept
    )


class KeptList(NamedTuple):
    """A kept list with all of its pages read: as it stands, or as it is to be."""

    pages: tuple[tuple[Page, tuple[Kept, ...]], ...]
    kept: tuple[Kept, ...]

    def all(self) -> list[Kept]:
        """Oldest first."""
        return [*(each for _, page in self.pages for each in page), *self.kept]

    def ids(self) -> set[str]:
        return {each.id for each in self.all()}


def beyond(kept: Sequence[Kept], newest: int) -> set[str]:
    """The ids that go when the `newest` ones stay; pinned ones stay, and do not count."""
    free = [each.id for each in kept if not each.pinned]
    return set(free[: max(len(free) - newest, 0)])


def without(kept: Iterable[Kept], ids: set[str]) -> tuple[Kept, ...]:
    return tuple(each for each in kept if each.id not in ids)


def with_entry(kept: Iterable[Kept], entry: Kept) -> tuple[Kept, ...]:
    """With `entry` in the place of the one of its id."""
    return tuple(entry if each.id == entry.id else each for each in kept)


def overflow(kept: Sequence[Kept]) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
    """What goes from the head to a page, and what stays."""
    moved = PAGED_AT_ONCE if len(kept) > HEAD_KEPT_MAX else 0
    return tuple(kept[:moved]), tuple(kept[moved:])


def chosen(
    kept: Sequence[Kept],
    *,
    checkpoint: str = "",
    before: float | None = None,
    offsets: Mapping[tuple[str, int], int] | None = None,
) -> Kept | None:
    """The newest one of those that are meant.

    `before`: seconds since 1970, included. `offsets`: it has read none of these partitions beyond.
    """
    for each in reversed(kept):
        if checkpoint and each.id != checkpoint and each.label != checkpoint:
            continue
        if before is not None and each.time > before:
            continue
        if offsets and not _within(each.offsets, offsets):
            continue
        return each
    return None


def _within(read: tuple[Offset, ...], bounds: Mapping[tuple[str, int], int]) -> bool:
    found = {(each.topic, each.partition): each.offset for each in read}
    return all(found.get(place, bound + 1) <= bound for place, bound in bounds.items())


def offsets_of(offsets: Mapping[tuple[str, int], int] | None) -> tuple[Offset, ...]:
    """As documents have them."""
    found = sorted((offsets or {}).items())
    return tuple(Offset(topic, partition, offset) for (topic, partition), offset in found)
