"""What `octad checkpoint` shows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from octad.client.checkpoints.checkpoints import Checkpoint, Checkpoints
from octad.client.cli.access.places import shown
from octad.client.cli.format_units import counted, shown_bytes, shown_time
from octad.client.cli.status_table import columns
from octad.client.runtime.command import CommandError

_PATHS_MAX = 20


def list_jobs(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    jobs = checkpoints.jobs()
    if arguments.json:
        print(json.dumps({"jobs": jobs}))
    else:
        print("\n".join(map(shown, jobs)) or f"no job has a checkpoint in {shown(arguments.place)}")
    return 0


def list_checkpoints(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    found = checkpoints.list()
    if arguments.json:
        print(json.dumps({"checkpoints": [row_of(each) for each in found]}))
        return 0
    if not found:
        print(f"job {shown(arguments.job)} keeps no checkpoint")
        return 0
    rows = [
        (each.id, _age(each), shown_bytes(each.bytes), shown_bytes(each.added), *_more(each))
        for each in found
    ]
    print("\n".join(columns([("ID", "AGE", "SIZE", "NEW", "OFFSETS", "PINNED"), *rows])))
    return 0


def show(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    one = chosen(checkpoints, arguments.id)
    files, metadata = one.files(), one.metadata()
    if arguments.json:
        print(json.dumps({**row_of(one), "metadata": metadata, "files": files}))
        return 0
    offsets, pinned = _more(one)
    print(f"checkpoint {one.id} of job {shown(one.job)}, {_age(one)} old")
    print(f"  size      {shown_bytes(one.bytes)}, of which {shown_bytes(one.added)} were new")
    print(f"  offsets   {offsets}")
    print(f"  pinned    {pinned}")
    for name, value in metadata.items():
        print(f"  metadata  {shown(name)} = {shown(json.dumps(value))}")
    for path, size in files.items():
        print(f"  {shown_bytes(size):>10}  {shown(path)}")
    return 0


def diff(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    found = checkpoints.diff(arguments.id, arguments.other)
    if arguments.json:
        print(json.dumps(found._asdict()))
        return 0
    for sign, paths in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for path in paths[:_PATHS_MAX]:
            print(f"{sign} {shown(path)}")
        if len(paths) > _PATHS_MAX:
            print(f"{sign} and {counted(len(paths) - _PATHS_MAX, 'more file')} (see --json)")
    print(f"{shown_bytes(found.bytes_new)} new, {shown_bytes(found.bytes_shared)} in common")
    return 0


def audit(checkpoints: Checkpoints, arguments: argparse.Namespace) -> int:
    found = checkpoints.audit()
    if arguments.json:
        print(json.dumps({**found._asdict(), "broken": [each._asdict() for each in found.broken]}))
        return 1 if found.broken else 0
    for each in found.broken:
        print(f"checkpoint {each.checkpoint} of job {shown(each.job)} lacks {shown(each.key)}")
    print(
        f"{counted(found.checkpoints, 'checkpoint')} of {counted(found.jobs, 'job')},"
        f" {counted(found.data_objects, 'data object')}, {shown_bytes(found.data_bytes)};"
        f" {counted(found.orphans, 'orphan')}, {shown_bytes(found.orphan_bytes)}"
    )
    if found.broken:
        raise CommandError(
            f"{counted(len(found.broken), 'object')} of kept checkpoints missing or cut off",
            "restore from one that is whole: octad checkpoint ls",
        )
    return 0


def chosen(checkpoints: Checkpoints, name: str, before: str | None = None) -> Checkpoint:
    """By id or savepoint, or the newest one. Raises CommandError, CheckpointNotFound."""
    if name:
        return checkpoints.checkpoint(name)
    found = checkpoints.latest(before=None if before is None else _moment(before))
    if found is None:
        raise CommandError(
            f"job {checkpoints.job} keeps no such checkpoint",
            "see which there are: octad checkpoint ls",
            4,
        )
    return found


def row_of(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """As `--json` prints it."""
    return {
        "id": checkpoint.id,
        "time": checkpoint.time.isoformat(),
        "bytes": checkpoint.bytes,
        "added": checkpoint.added,
        "offsets": [[*place, offset] for place, offset in checkpoint.offsets.items()],
        "pinned": checkpoint.pinned,
        "label": checkpoint.label,
    }


def _more(checkpoint: Checkpoint) -> tuple[str, str]:
    offsets = " ".join(f"{topic}/{n}:{at}" for (topic, n), at in checkpoint.offsets.items())
    pinned = (shown(checkpoint.label) or "yes") if checkpoint.pinned else "-"
    return offsets or "-", pinned


def _age(checkpoint: Checkpoint) -> str:
    return shown_time(max((datetime.now(UTC) - checkpoint.time).total_seconds(), 0.0))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{text!r} is no time", "as in 2026-11-30T18:00:00Z", 2) from error
    return moment if moment.tzinfo is not None else moment.astimezone()
