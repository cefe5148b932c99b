"""`octad du`: how many objects and bytes there are below places.

Exit codes: 0 done, 1 refused or not reachable, 4 there is no such bucket.
"""

from __future__ import annotations

import argparse
import json

from octad.client.cli.access.connection import add_connection_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places", metavar="s3://BUCKET/PREFIX", nargs="+", help="folders, or patterns"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document for each")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import s3_place_of, shown
    from octad.client.cli.access.refusals import refusals_of
    from octad.client.cli.format_units import counted, shown_bytes
    from octad.client.cli.objects.found import matching

    places = [s3_place_of(word) for word in arguments.places]
    with connected(arguments) as client:
        for place in places:
            objects = size = 0
            with refusals_of(place):
                for info in matching(client, place):
                    objects += 1
                    size += info.size
            if arguments.json:
                print(json.dumps({"place": str(place), "objects": objects, "bytes": size}))
            else:
                amount = f"{size:>15}  {shown_bytes(size):>10}"
                print(f"{amount}  {counted(objects, 'object'):>14}  {shown(place)}")
    return 0
