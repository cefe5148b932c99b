"""What `octad checkpoint` does."""

from __future__ import annotations

import argparse
import json

from octad.client.checkpoints.checkpoints import Checkpoints
from octad.client.cli.access.places import shown
from octad.client.cli.checkpoints.looking import chosen, row_of
from octad.client.cli.format_units import counted, shown_bytes


def restore(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    one = chosen(checkpoints, arguments.id, arguments.before)
    one.restore(arguments.directory)
    if arguments.json:
        print(json.dumps(row_of(one)))
    else:
        files = counted(len(one.files()), "file")
        where = shown(arguments.directory)
        print(f"checkpoint {one.id} is in {where}: {files}, {shown_bytes(one.bytes)}")
    return 0


def keep(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    gone = checkpoints.keep(arguments.count)
    if arguments.json:
        print(json.dumps({"dropped": list(gone)}))
        return 0
    print(f"{counted(len(gone), 'checkpoint')} dropped", end="")
    print("; their data goes with: octad checkpoint gc" if gone else "")
    return 0


def pin(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    if arguments.release:
        checkpoints.unpin(arguments.id)
    else:
        checkpoints.pin(arguments.id, label=arguments.label)
    if arguments.json:
        print(json.dumps(row_of(checkpoints.checkpoint(arguments.id))))
    else:
        done = "may be dropped again" if arguments.release else "stays until it is released"
        print(f"checkpoint {shown(arguments.id)} {done}")
    return 0


def collect(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    found = checkpoints.collect(dry_run=arguments.dry_run)
    if arguments.json:
        keys = [each.key for each in found.objects]
        pins = [list(each) for each in found.pins]
        print(json.dumps({"bytes": found.bytes, "objects": keys, "pins": pins}))
        return 0
    would = "would be" if arguments.dry_run else "were" if len(found.objects) != 1 else "was"
    amount = f"{counted(len(found.objects), 'object')} of {shown_bytes(found.bytes)}"
    print(f"{amount} {would} deleted, and {counted(len(found.pins), 'pin')} released")
    return 0
