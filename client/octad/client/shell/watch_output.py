"""What runs behind `octad watch`: one line for each change, or the documents as they come."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from octad.client.core.event_document import ClusterEvent, EventsDocument
from octad.client.shell.command import CommandError
from octad.client.shell.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.shell.membership.watching import watch_keys

_SIGNS = {"join": "+", "change": "~", "leave": "-"}


@dataclass(frozen=True, slots=True)
class Asked:
    """As typed."""

    what: tuple[str, ...]
    after: str | None
    as_json: bool
    coordinator: str


def run_watch(asked: Asked) -> int:
    """Returns 0 after Ctrl-C, or when nobody reads on; raises CommandError."""
    prefix = prefix_of(asked.what)
    try:
        asyncio.run(_watch(asked, prefix))
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    except (CallRefused, ValueError) as error:
        raise CommandError(str(error), "see: octad watch --help", 2) from error
    except CoordinatorsUnreachable as error:
        raise CommandError(
            str(error), "start one (octad dev, octad coordinator), or correct --coordinator"
        ) from error
    return 0


def prefix_of(words: tuple[str, ...]) -> str:
    """The prefix that was meant; raises CommandError."""
    if len(words) == 2 and words[0] == "service":
        return f"services/{words[1]}/"
    if len(words) > 1:
        raise CommandError(f"{' '.join(words)!r} is no prefix", "see: octad watch --help", 2)
    return words[0] if words else ""


async def _watch(asked: Asked, prefix: str) -> None:
    documents = watch_keys(prefix, coordinator=asked.coordinator, after=asked.after)
    async with aclosing(documents):
        async for document in documents:
            if asked.as_json:
                sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
            else:
                sys.stdout.writelines(_lines(document))
            sys.stdout.flush()


def _lines(document: EventsDocument) -> list[str]:
    lines = [_line(event) for event in document.events]
    if document.reset:
        there = f"{len(lines)} {'key is' if len(lines) == 1 else 'keys are'} there"
        lines.insert(0, f"{document.revision}  as of this revision, {there}:\n")
    return lines


def _line(event: ClusterEvent) -> str:
    value = "" if event.type == "leave" else f"  {bytes(event.value).decode()}"
    return f"{event.revision}  {_SIGNS[event.type]} {event.key}{value}\n"
