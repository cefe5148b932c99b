"""What makes a target like its source: what to carry there, what to delete, and what is too much.

Two of one name are taken for the same where their sizes are, and the source is not newer; or, by
checksum, where their ETags are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from octad.client.cli.transfers.items import Item
from octad.client.cli.transfers.patterns import Selection

_MS = 1000  # What listings tell is rounded to milliseconds.

Changed = Callable[[Item, Item], bool]


class Differences(NamedTuple):
    """`carried` are items of the source, `deleted` names at the target."""

    carried: Sequence[Item]
    deleted: Sequence[str]
    source_count: int
    target_count: int


def newer_or_of_another_size(source: Item, target: Item) -> bool:
    return source.size != target.size or int(source.modified_s * _MS) > int(target.modified_s * _MS)


def differences(
    source: Iterable[Item],
    target: Iterable[Item],
    selection: Selection,
    changed: Changed,
    *,
    delete: bool,
) -> Differences:
    """What `selection` does not take is neither carried nor deleted, nor counted."""
    there = {item.name: item for item in target if selection.takes(item.name)}
    wanted = [item for item in source if selection.takes(item.name)]
    carried = [
        item for item in wanted if (other := there.get(item.name)) is None or changed(item, other)
    ]
    names = {item.name for item in wanted}
    deleted = [name for name in there if name not in names] if delete else []
    return Differences(carried, deleted, len(wanted), len(there))


def too_much(found: Differences) -> str:
    """Why so many deletions are hardly meant; "" where they may be."""
    count, of = len(found.deleted), found.target_count
    if count and not found.source_count:
        return f"the source is empty, so all {of} would be deleted"
    if count * 2 > of:
        return f"{count} of {of} would be deleted"
    return ""
