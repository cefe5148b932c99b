"""Verbs of `octad topic` about what is held at partitions: fences of jobs, and pins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import msgspec

    from octad.client.log.topics_client import TopicsClient

VERBS: Final = ("fence", "fences", "pin", "unpin", "pins")
_PIN_FIELDS: Final = ("partition", "owner", "id", "offset")
_FENCE_FIELDS: Final = ("partition", "job", "token")


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    """`add` makes the parser of a verb."""
    fence = add("fence", help="refuse a job's appends under a lower token, or none")
    fence.add_argument("--job", metavar="JOB", required=True)
    fence.add_argument("--token", metavar="N", type=int, required=True)
    fences = add("fences", help="list the tokens of jobs")
    pin = add("pin", help="keep the records of a partition from an offset on")
    unpin = add("unpin", help="let go of what a pin keeps")
    pins = add("pins", help="list what is kept for whom")
    for verb in (pin, unpin):
        verb.add_argument("--owner", metavar="OWNER", required=True, help="whose it is: a job's")
        verb.add_argument("--id", metavar="ID", required=True, help="of its owner's, used once")
    pin.add_argument("--partition", metavar="N", type=int, required=True)
    pin.add_argument("--offset", metavar="OFFSET", type=int, required=True)
    for verb in (fence, fences, unpin, pins):
        verb.add_argument("--partition", metavar="N", type=int, help="(default: all)")
    for verb in (fence, fences, pin, unpin, pins):
        verb.add_argument("topic", metavar="NAME")


def held(client: TopicsClient, arguments: argparse.Namespace) -> str:
    """Carry out one of VERBS; what it prints."""
    from octad.client.http.blocking import drive

    name = arguments.topic
    numbers = [arguments.partition]
    if arguments.partition is None:
        numbers = list(range(drive(client.describe(name)).partitions))
    match arguments.verb:
        case "fence":
            of = arguments.job, arguments.token
            fences = [drive(client.fence(name, number, *of)) for number in numbers]
            return _shown(arguments, _FENCE_FIELDS, fences)
        case "fences":
            found = [drive(client.fences(name, number)).fences for number in numbers]
            return _shown(arguments, _FENCE_FIELDS, [each for some in found for each in some])
        case "pin":
            pinned = drive(client.pin(name, *_pin(arguments), arguments.offset))
            return _shown(arguments, _PIN_FIELDS, [pinned])
        case "unpin":
            for number in numbers:
                drive(client.unpin(name, number, arguments.owner, arguments.id))
            said = f"{arguments.id} of {arguments.owner} keeps nothing of {name} any more"
            return "[]" if arguments.json else said
        case _:
            pins = [drive(client.pins(name, number)).pins for number in numbers]
            return _shown(arguments, _PIN_FIELDS, [each for some in pins for each in some])


def _pin(arguments: argparse.Namespace) -> tuple[int, str, str]:
    return arguments.partition, arguments.owner, arguments.id


def _shown(
    arguments: argparse.Namespace, fields: tuple[str, ...], documents: Sequence[msgspec.Struct]
) -> str:
    import msgspec

    from octad.client.cli.status_table import columns

    if arguments.json:
        return msgspec.json.encode(documents).decode()
    rows = [tuple(str(getattr(each, field)) for field in fields) for each in documents]
    return "\n".join(columns([tuple(field.upper() for field in fields), *rows]))
