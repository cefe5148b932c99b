"""`octad stat`: all that is known of objects.

Exit codes: 0 done, 1 refused or not reachable, 4 there is no such object.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from octad.client.cli.access.connection import add_connection_options

if TYPE_CHECKING:
    from octad.client.objects.bucket import Bucket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("places", metavar="s3://BUCKET/KEY", nargs="+", help="objects")
    parser.add_argument("--json", action="store_true", help="print a JSON document for each")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import s3_place_of
    from octad.client.cli.access.refusals import refusals_of

    places = [s3_place_of(word) for word in arguments.places]
    with connected(arguments) as client:
        for place in places:
            with refusals_of(place):
                known = _known(client.bucket(place.bucket), place.key)
            print(json.dumps(known) if arguments.json else _shown(known))
    return 0


def _known(bucket: Bucket, key: str) -> dict[str, Any]:
    from octad.client.cli.objects.found import row_of

    info = bucket.head(key)
    return {
        **row_of(bucket.name, info),
        "version": info.version,
        "content_type": info.content_type,
        "content_encoding": info.content_encoding,
        "cache_control": info.cache_control,
        "metadata": info.metadata,
        "tags": bucket.tags(key),
    }


def _shown(known: dict[str, Any]) -> str:
    from octad.client.cli.access.places import shown
    from octad.client.cli.format_units import shown_bytes

    lines = [shown(known["object"]), f"  size              {known['size']}"]
    if known["size"] >= 1024:
        lines[-1] += f" ({shown_bytes(known['size'])})"
    for name in ("modified", "etag", "version", "content_type", "content_encoding"):
        if known[name]:
            lines.append(f"  {name.replace('_', ' '):<16}  {shown(known[name])}")
    if known["cache_control"]:
        lines.append(f"  cache control     {shown(known['cache_control'])}")
    for kind in ("metadata", "tags"):
        for name, value in known[kind].items():
            lines.append(f"  {kind:<16}  {shown(name)} = {shown(value)}")
    return "\n".join(lines)
