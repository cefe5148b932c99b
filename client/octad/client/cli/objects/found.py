"""Objects that a place on a command line means: one, those below, those of a pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from octad.client.cli.access.places import S3Place
from octad.client.cli.transfers.patterns import fixed_part, is_pattern, matcher_of
from octad.client.objects.client import Client
from octad.client.objects.results import ObjectInfo


def matching(client: Client, place: S3Place) -> Iterator[ObjectInfo]:
    """All objects whose keys match a pattern, or are the key, or are below it as a folder."""
    bucket = client.bucket(place.bucket)
    if is_pattern(place.key):
        matches = matcher_of(place.key)
        yield from (each for each in bucket.list(fixed_part(place.key)) if matches(each.key))
        return
    folder = place.key if not place.key or place.key.endswith("/") else f"{place.key}/"
    for each in bucket.list(place.key):
        if each.key == place.key or each.key.startswith(folder):
            yield each


def folder_of(client: Client, place: S3Place) -> Iterator[ObjectInfo | str]:
    """What is in a folder, with the folders in it as their names; or the one object."""
    from octad.client.objects.results import CommonPrefix

    bucket = client.bucket(place.bucket)
    inside = not place.key or place.key.endswith("/")
    for each in bucket.list_folder(place.key):
        if isinstance(each, CommonPrefix):
            if not inside and each.prefix == f"{place.key}/":
                yield from folder_of(client, S3Place(place.bucket, each.prefix))
            elif inside:
                yield each.prefix
        elif inside or each.key == place.key:
            yield each


def row_of(bucket: str, info: ObjectInfo) -> dict[str, Any]:
    """As `--json` prints it."""
    return {
        "object": str(S3Place(bucket, info.key)),
        "size": info.size,
        "modified": info.modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "etag": info.etag,
    }
