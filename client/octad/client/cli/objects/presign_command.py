"""`octad presign`: a URL with which anyone may do one thing with one object for a while.

Exit codes: 0 done, 1 no coordinator answers, 2 not understood.
"""

from __future__ import annotations

import argparse
import json

from octad.client.cli.access.connection import add_connection_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="s3://BUCKET/KEY", help="the object")
    parser.add_argument(
        "--method", choices=("GET", "PUT", "HEAD", "DELETE"), default="GET", help="default: GET"
    )
    parser.add_argument(
        "--expires", metavar="AGE", default="1h", help="as in 15m, 1h, 7d (default: 1h)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import s3_place_of
    from octad.client.cli.access.refusals import refusals_of
    from octad.client.cli.format_units import seconds_of
    from octad.client.runtime.command import EXIT_USAGE, CommandError

    place = s3_place_of(arguments.place)
    if not place.key:
        raise CommandError(f"{place} is a bucket", "name an object: s3://BUCKET/KEY", EXIT_USAGE)
    expires_s = seconds_of(arguments.expires)
    with refusals_of(place), connected(arguments) as client:
        url = client.bucket(place.bucket).presign(
            place.key, method=arguments.method, expires_s=expires_s
        )
    document = {"url": url, "method": arguments.method, "expires_s": expires_s}
    print(json.dumps(document) if arguments.json else url)
    return 0
