"""`octad ls`: buckets, or what is in one.

Exit codes: 0 listed, 1 refused or not reachable, 4 there is nothing of that name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from octad.client.cli.access.connection import add_connection_options

if TYPE_CHECKING:
    from octad.client.objects.client import Client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place",
        metavar="s3://BUCKET/PREFIX",
        nargs="?",
        help="a folder, or a pattern as in 's3://logs/2026-*/*.gz' (default: all buckets)",
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="all that is below, too")
    parser.add_argument("--json", action="store_true", help="print a JSON document for each")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import s3_place_of
    from octad.client.cli.access.refusals import refusals_of

    place = s3_place_of(arguments.place) if arguments.place else None
    with refusals_of(place), connected(arguments) as client:
        rows = _buckets(client) if place is None else _objects(client, arguments)
        for row in rows:
            sys.stdout.write(f"{json.dumps(row)}\n" if arguments.json else _line(row))
    return 0


def _buckets(client: Client) -> Iterator[dict[str, Any]]:
    for bucket in client.list_buckets():
        yield {"bucket": bucket.name, "created": bucket.created}


def _objects(client: Client, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from octad.client.cli.access.places import S3Place, s3_place_of
    from octad.client.cli.access.refusals import not_there
    from octad.client.cli.objects.found import folder_of, matching, row_of
    from octad.client.cli.transfers.patterns import is_pattern

    place = s3_place_of(arguments.place)
    found = False
    if arguments.recursive or is_pattern(place.key):
        for info in matching(client, place):
            found = True
            yield row_of(place.bucket, info)
    else:
        for item in folder_of(client, place):
            found = True
            if isinstance(item, str):
                yield {"folder": str(S3Place(place.bucket, item))}
            else:
                yield row_of(place.bucket, item)
    if not found and place.key:
        raise not_there(place)


def _line(row: dict[str, Any]) -> str:
    from octad.client.cli.access.places import shown

    if "bucket" in row:
        return f"{row['created'][:19].replace('T', ' ')}  s3://{row['bucket']}\n"
    if "folder" in row:
        return f"{'':19}  {'folder':>14}  {shown(row['folder'])}\n"
    modified = row["modified"][:19].replace("T", " ")
    return f"{modified}  {row['size']:>14}  {shown(row['object'])}\n"
