"""Runs what was planned: says where everything goes, shows how far it is, and how it ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple

from octad.client.cli.access.places import Place, S3Place, shown
from octad.client.cli.access.refusals import command_error
from octad.client.cli.format_units import counted, shown_bytes
from octad.client.cli.transfers.carrier import Carrier
from octad.client.cli.transfers.items import Failure
from octad.client.cli.transfers.plan import Plan, Transfer
from octad.client.cli.transfers.progress import Progress
from octad.client.errors import OctadError
from octad.client.objects.async_client import AsyncClient
from octad.client.runtime.command import CommandError

EXIT_INTERRUPTED: Final = 130
FAILURES_SHOWN_MAX: Final = 20
_PAST: Final = {"upload": "uploaded", "download": "downloaded", "copy": "copied", "move": "moved"}


class How(NamedTuple):
    """`word`: upload, download, copy, move. `goes_on`: what to do after an interruption."""

    word: str
    as_json: bool
    dry_run: bool
    goes_on: str


def to_the_end(work: Coroutine[Any, Any, int], place: S3Place | None, goes_on: str) -> int:
    """Runs a verb's coroutine. Raises CommandError; Ctrl-C ends with how to go on."""
    try:
        return asyncio.run(work)
    except OctadError as error:
        raise command_error(error, place) from error
    except BrokenPipeError:  # Of who reads what is printed.
        raise
    except OSError as error:
        name = f"{shown(str(error.filename))}: " if error.filename else ""
        raise CommandError(f"{name}{error.strerror or error}", goes_on) from error
    except KeyboardInterrupt:
        print(f"octad: interrupted; {goes_on}", file=sys.stderr)
        return EXIT_INTERRUPTED


def announce(source: Place | str, target: Place, plan: Plan, how: How) -> None:
    """Where all goes, before it does; each one, where nothing is to be done."""
    if how.as_json:
        return
    would = "would " if how.dry_run else ""
    amount = f"{counted(len(plan.transfers), 'object')}, {shown_bytes(plan.size_bytes)}"
    print(f"{would}{how.word} {shown(source)} -> {shown(target)}: {amount}", flush=True)
    if how.dry_run:
        for transfer in plan.transfers:
            size = f"{transfer.size:>14}"
            print(f"  {size}  {shown(transfer.source)} -> {shown(transfer.target)}")


async def carried(client: AsyncClient, plan: Plan, how: How) -> Carrier:
    """Raises OctadError, OSError for what is wrong with all; else failures are the carrier's."""
    carrier = Carrier(
        client,
        Progress(how.word, len(plan.transfers), plan.size_bytes),
        moves=how.word == "move",
    )
    carrier.failures += plan.failures
    async with carrier.progress:
        await carrier.carry(plan.transfers)
    return carrier


def told(carrier: Carrier, how: How, *, deleted: int | None = None) -> int:
    """Says how it ended; returns the exit code."""
    failures, progress = carrier.failures, carrier.progress
    if how.as_json:
        document = {
            "done": _PAST[how.word],
            "objects": progress.done,
            "bytes": progress.done_bytes,
            "seconds": round(progress.seconds, 3),
            "failed": [failure._asdict() for failure in failures],
        }
        if deleted is not None:
            document["deleted"] = deleted
        print(json.dumps(document))
    else:
        done = f"{_PAST[how.word]} {counted(progress.done, 'object')}"
        also = "" if deleted is None else f", deleted {deleted}"
        size = shown_bytes(progress.done_bytes)
        print(f"{done}, {size}{also} in {progress.seconds:.1f} s")
        show_failures(failures)
    return 1 if failures else 0


def show_failures(failures: Sequence[Failure]) -> None:
    """On stderr, the first of them."""
    for failure in failures[:FAILURES_SHOWN_MAX]:
        print(f"octad: {shown(failure.name)}: {shown(failure.reason)}", file=sys.stderr)
    if len(failures) > FAILURES_SHOWN_MAX:
        more = len(failures) - FAILURES_SHOWN_MAX
        print(f"octad: and {more} more (--json prints all)", file=sys.stderr)


def dry_document(plan: Plan, how: How, deletions: Sequence[Place] = ()) -> str:
    """What `--dry-run --json` prints."""

    def row(transfer: Transfer) -> dict[str, Any]:
        return {
            "source": str(transfer.source),
            "target": str(transfer.target),
            "size": transfer.size,
        }

    return json.dumps(
        {
            "would": how.word,
            "objects": len(plan.transfers),
            "bytes": plan.size_bytes,
            "transfers": [row(transfer) for transfer in plan.transfers],
            "deletions": [str(place) for place in deletions],
            "failed": [failure._asdict() for failure in plan.failures],
        }
    )
