"""`octad sync`: makes a bucket or a folder like another one, carrying only what differs.

Exit codes: 0 done, 1 some or all failed, or too much would be deleted, 2 not understood, 4 there
is no such source, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse

from octad.client.cli.access.connection import add_connection_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a folder, or s3://BUCKET/PREFIX")
    parser.add_argument("target", metavar="TARGET", help="s3://BUCKET/PREFIX, or a folder")
    parser.add_argument(
        "--delete", action="store_true", help="at TARGET what is not at SOURCE, at the end"
    )
    parser.add_argument(
        "--yes", action="store_true", help="also more than half of TARGET, or all of it"
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave these alone, as in '*.tmp' or 'cache/**'; may be repeated",
    )
    parser.add_argument(
        "--include",
        metavar="PATTERN",
        action="append",
        default=[],
        help="but not these; without --exclude: only these; may be repeated",
    )
    parser.add_argument(
        "--checksum",
        action="store_true",
        help="read files and compare their ETags, not sizes and times",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.objects.syncing import run_sync

    return run_sync(arguments)
