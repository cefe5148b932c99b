"""`octad cp`: copies files and objects: to a bucket, from one, or inside the cluster.

Exit codes: 0 done, 1 some or all failed, 2 not understood, 4 there is no such source, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse

from octad.client.cli.objects.transfer_options import add_transfer_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_transfer_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.objects.copying import run_copying

    return run_copying(arguments, moves=False)
