"""`octad find`: objects by name, size and age.

Exit codes: 0 done, also when nothing is found, 1 refused or not reachable, 2 not understood, 4
there is no such bucket.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from octad.client.cli.access.connection import add_connection_options

if TYPE_CHECKING:
    from octad.client.objects.results import ObjectInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="s3://BUCKET/PREFIX", help="below which folder")
    parser.add_argument("--name", metavar="PATTERN", help="as in '*.gz', or 'a/**/b' for all of it")
    parser.add_argument("--larger", metavar="SIZE", help="than this, as in 10MiB")
    parser.add_argument("--smaller", metavar="SIZE", help="than this")
    parser.add_argument("--newer", metavar="AGE", help="than this, as in 30m, 12h, 7d")
    parser.add_argument("--older", metavar="AGE", help="than this")
    parser.add_argument("--json", action="store_true", help="print a JSON document for each")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    import time

    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import S3Place, s3_place_of, shown
    from octad.client.cli.access.refusals import refusals_of
    from octad.client.cli.objects.found import matching, row_of

    place = s3_place_of(arguments.place)
    wanted = wanted_of(arguments, place.key, time.time())
    with refusals_of(place), connected(arguments) as client:
        for info in matching(client, place):
            if wanted(info):
                row = row_of(place.bucket, info)
                line = json.dumps(row) if arguments.json else shown(S3Place(place.bucket, info.key))
                sys.stdout.write(f"{line}\n")
    return 0


def wanted_of(
    arguments: argparse.Namespace, prefix: str, now_s: float
) -> Callable[[ObjectInfo], bool]:
    """Whether an object is what was asked for. Raises CommandError."""
    from octad.client.cli.format_units import bytes_of, seconds_of
    from octad.client.cli.transfers.patterns import Selection

    names = Selection.of([arguments.name] if arguments.name else [], [])
    larger, smaller = (
        None if text is None else bytes_of(text) for text in (arguments.larger, arguments.smaller)
    )
    newer, older = (
        None if text is None else seconds_of(text) for text in (arguments.newer, arguments.older)
    )
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"

    def wanted(info: ObjectInfo) -> bool:
        age_s = now_s - info.modified.timestamp()
        return (
            names.takes(info.key.removeprefix(folder))
            and (larger is None or info.size > larger)
            and (smaller is None or info.size < smaller)
            and (newer is None or age_s < newer)
            and (older is None or age_s > older)
        )

    return wanted
