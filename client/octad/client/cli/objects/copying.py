"""`octad cp` and `octad mv`: they differ in what becomes of the source."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from octad.client.cli.access.connection import connected_async
from octad.client.cli.access.places import (
    STANDARD,
    Place,
    S3Place,
    place_of,
    s3_place_of,
    shown,
)
from octad.client.cli.transfers.carrying import (
    How,
    announce,
    carried,
    dry_document,
    show_failures,
    to_the_end,
    told,
)
from octad.client.cli.transfers.gathering import gathered, planned
from octad.client.cli.transfers.patterns import is_pattern
from octad.client.cli.transfers.plan import Plan, direction
from octad.client.runtime.command import EXIT_USAGE, CommandError

AGAIN = "the same command goes on where this one ended"


def run_copying(arguments: argparse.Namespace, *, moves: bool) -> int:
    """Returns the exit code; raises CommandError."""
    words, last = arguments.sources, arguments.target
    if STANDARD in (*words, last):
        return _standard(arguments, moves=moves)
    sources = [place_of(word) for word in words]
    target = place_of(last)
    for source in sources:
        _check(source, target)
    how = How(
        "move" if moves else direction(sources[0], target), arguments.json, arguments.dry_run, AGAIN
    )
    into = len(sources) > 1 or last.endswith("/")
    about = next((place for place in (*sources, target) if isinstance(place, S3Place)), None)
    return to_the_end(_copying(arguments, sources, target, how, into=into), about, AGAIN)


async def _copying(
    arguments: argparse.Namespace,
    sources: Sequence[Place],
    target: Place,
    how: How,
    *,
    into: bool,
) -> int:
    async with connected_async(arguments) as client:
        plans = []
        for source in sources:
            found = await gathered(client, source, recursive=arguments.recursive)
            plan = planned(found, target, into=into or not found.single)
            plans.append(plan._replace(failures=(*found.failures, *plan.failures)))
            announce(source, target, plan, how)
        plan = Plan(
            [transfer for each in plans for transfer in each.transfers],
            [failure for each in plans for failure in each.failures],
        )
        _check_targets(plan)
        if how.dry_run:
            if how.as_json:
                print(dry_document(plan, how))
            else:
                show_failures(plan.failures)
            return 1 if plan.failures else 0
        return told(await carried(client, plan, how), how)


def _check(source: Place, target: Place) -> None:
    if isinstance(source, Path) and isinstance(target, Path):
        raise CommandError(
            f"{shown(source)} and {shown(target)} are both on this machine",
            "name one of them as s3://BUCKET/KEY",
            EXIT_USAGE,
        )
    if source == target:
        raise CommandError(f"{shown(source)} is both source and target", "name two", EXIT_USAGE)


def _check_targets(plan: Plan) -> None:
    """Nothing is carried onto itself (a move would remove it), and no two to one place."""
    seen: dict[Place, Place] = {}
    for transfer in plan.transfers:
        if transfer.source == transfer.target:
            raise CommandError(
                f"{shown(transfer.source)} would be carried onto itself; nothing was done",
                "choose another target",
            )
        other = seen.setdefault(transfer.target, transfer.source)
        if other != transfer.source:
            raise CommandError(
                f"{shown(other)} and {shown(transfer.source)} would both become"
                f" {shown(transfer.target)}; nothing was done",
                "carry them one by one",
            )


def _standard(arguments: argparse.Namespace, *, moves: bool) -> int:
    """`cp - s3://…` and `cp s3://… -`."""
    words, last = arguments.sources, arguments.target
    if moves or arguments.recursive or arguments.dry_run or len(words) != 1:
        raise CommandError(
            "- is one stream of bytes", "give one source and one target, without -r", EXIT_USAGE
        )
    place = s3_place_of(last if words[0] == STANDARD else words[0])
    if is_pattern(place.key) or not place.key or place.key.endswith("/"):
        raise CommandError(f"{place} is no one object", "name one", EXIT_USAGE)
    work = _put_input(arguments, place) if words[0] == STANDARD else _get_output(arguments, place)
    return to_the_end(work, place, "run it again from the beginning")


async def _put_input(arguments: argparse.Namespace, place: S3Place) -> int:
    async with connected_async(arguments) as client:
        with os.fdopen(sys.stdin.fileno(), "rb", closefd=False) as file:
            await client.bucket(place.bucket).put(place.key, file)
    return 0


async def _get_output(arguments: argparse.Namespace, place: S3Place) -> int:
    async with (
        connected_async(arguments) as client,
        client.bucket(place.bucket).stream(place.key) as stream,
    ):
        async for piece in stream:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return 0
