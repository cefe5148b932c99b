"""The arguments that `octad cp` and `octad mv` share."""

from __future__ import annotations

import argparse

from octad.client.cli.access.connection import add_connection_options


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a file, a folder, s3://BUCKET/KEY, a pattern of keys as in 's3://logs/*.gz'",
    )
    parser.add_argument("target", metavar="TARGET", help="s3://BUCKET/KEY, or a file or folder")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="all that is in a folder, below TARGET"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    add_connection_options(parser)
