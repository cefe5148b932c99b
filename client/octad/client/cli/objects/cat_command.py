"""`octad cat`: the bytes of objects, one after the other, to standard output.

Exit codes: 0 done, 1 refused or not reachable, 4 there is no such object.
"""

from __future__ import annotations

import argparse
import sys

from octad.client.cli.access.connection import add_connection_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("places", metavar="s3://BUCKET/KEY", nargs="+", help="objects")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import s3_place_of
    from octad.client.cli.access.refusals import refusals_of

    places = [s3_place_of(word) for word in arguments.places]
    with connected(arguments) as client:
        for place in places:
            with refusals_of(place), client.bucket(place.bucket).stream(place.key) as stream:
                for piece in stream:
                    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0
