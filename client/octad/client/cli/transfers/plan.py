"""What is carried where: values, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from octad.client.cli.access.places import Place, S3Place
from octad.client.cli.transfers.items import Failure, Item, bad_file_name


class Transfer(NamedTuple):
    """One file or object, from where to where. `modified_s` is the source's, `etag` too."""

    source: Place
    target: Place
    size: int
    modified_s: float
    etag: str = ""


class Plan(NamedTuple):
    """All of a command. `failures`: what cannot even be begun."""

    transfers: Sequence[Transfer]
    failures: Sequence[Failure]

    @property
    def size_bytes(self) -> int:
        return sum(transfer.size for transfer in self.transfers)


def below(place: Place, name: str) -> Place:
    """`name` in a folder or below a prefix."""
    if isinstance(place, S3Place):
        return S3Place(place.bucket, place.key + name)
    return place / name


def as_folder(place: Place) -> Place:
    """A prefix ends with a `/`, so that `logs` is not also the beginning of `logs-old/…`."""
    if isinstance(place, S3Place) and place.key and not place.key.endswith("/"):
        return S3Place(place.bucket, f"{place.key}/")
    return place


def direction(source: Place, target: Place) -> str:
    """The word for it."""
    if isinstance(source, S3Place):
        return "copy" if isinstance(target, S3Place) else "download"
    return "upload"


def plan_of(source: Place, target: Place, items: Iterable[Item]) -> Plan:
    """Each of `items`, which are below `source`, to its place below `target`."""
    transfers, failures = [], []
    to_files = isinstance(target, Path)
    for item in items:
        if to_files and not item.size and (not item.name or item.name.endswith("/")):
            continue  # What some clients put where they show a folder.
        reason = bad_file_name(item.name) if to_files else _bad_key(item.name)
        if reason:
            failures.append(Failure(str(below(source, item.name)), reason))
            continue
        transfers.append(
            Transfer(
                below(source, item.name),
                below(target, item.name),
                item.size,
                item.modified_s,
                item.etag,
            )
        )
    return Plan(transfers, failures)


def _bad_key(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, so no key can be the same"
    return ""
