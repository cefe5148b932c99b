"""`octad rm`: removes objects.

Exit codes: 0 done, 1 some or all failed, 2 not understood, 4 there is no such object, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from octad.client.cli.access.connection import add_connection_options

if TYPE_CHECKING:
    from octad.client.cli.access.places import S3Place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places", metavar="s3://BUCKET/KEY", nargs="+", help="objects, or patterns of keys"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="all below a folder")
    parser.add_argument("--yes", action="store_true", help="also all of a bucket, with -r")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and remove nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.places import s3_place_of, shown, shown_word
    from octad.client.cli.transfers.carrying import to_the_end
    from octad.client.runtime.command import CommandError

    places = [s3_place_of(word) for word in arguments.places]
    for place in places:
        if not place.key and not (arguments.recursive and (arguments.yes or arguments.dry_run)):
            raise CommandError(
                f"{shown(place)} is a whole bucket; nothing was removed",
                f"see what is in it: octad du {shown_word(place)}; if all is meant, add -r --yes",
            )
    return to_the_end(_remove(arguments, places), places[0], "the same command goes on")


async def _remove(arguments: argparse.Namespace, places: Sequence[S3Place]) -> int:
    import json

    from octad.client.cli.access.connection import connected_async
    from octad.client.cli.access.places import S3Place, shown
    from octad.client.cli.format_units import counted, shown_bytes
    from octad.client.cli.transfers.carrier import Carrier
    from octad.client.cli.transfers.carrying import show_failures
    from octad.client.cli.transfers.gathering import gathered
    from octad.client.cli.transfers.plan import below
    from octad.client.cli.transfers.progress import Progress

    async with connected_async(arguments) as client:
        doomed: dict[S3Place, int] = {}
        for place in places:
            found = await gathered(client, place, recursive=arguments.recursive)
            for item in found.items:
                where = below(found.base, item.name)
                assert isinstance(where, S3Place)
                doomed[where] = item.size
        size = sum(doomed.values())
        carrier = Carrier(client, Progress("remove", len(doomed), size))
        gone = 0
        if not arguments.dry_run:
            async with carrier.progress:
                gone = await carrier.delete(doomed)
    if arguments.json:
        document = {
            "objects": len(doomed) if arguments.dry_run else gone,
            "bytes": size,
            "dry_run": arguments.dry_run,
            "failed": [failure._asdict() for failure in carrier.failures],
        }
        print(json.dumps(document))
        return 1 if carrier.failures else 0
    if arguments.dry_run:
        for where, bytes_of_it in doomed.items():
            print(f"  {bytes_of_it:>14}  {shown(where)}")
        print(f"would remove {counted(len(doomed), 'object')}, {shown_bytes(size)}")
    else:
        print(f"removed {counted(gone, 'object')}")
        show_failures(carrier.failures)
    return 1 if carrier.failures else 0
