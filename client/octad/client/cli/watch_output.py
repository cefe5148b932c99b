"""Implements `octad watch`: a summary and a line for each change, or the documents."""

from __future__ import annotations

import asyncio
import difflib
import sys
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.cluster.service_records import is_service_name
from octad.client.cluster.view_age import shown_old_view
from octad.client.membership.event_document import PUBLIC_KINDS, ClusterEvent, EventsDocument
from octad.client.membership.watching import watch_keys
from octad.client.runtime.command import CommandError

NAMED_MAX = 5
_KINDS = tuple(kind.rstrip("/") for kind in PUBLIC_KINDS)
_PREFIXES = tuple(kind for kind in PUBLIC_KINDS if kind.endswith("/"))
_SIGNS = {"join": "+", "change": "~", "leave": "-"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as typed."""

    what: tuple[str, ...]
    after: str | None
    as_json: bool
    coordinator: str


def run_watch(asked: Asked) -> int:
    """Returns 0 after Ctrl-C, or when no one reads on; raises CommandError."""
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
        if not is_service_name(words[1]):
            raise CommandError(
                f"no service can be called {words[1]!r}", "see which there are: octad service ls", 2
            )
        return f"services/{words[1]}/"
    if words == ("service",):
        raise CommandError(
            "of which service?", "octad watch service NAME (all of them: octad watch services)", 2
        )
    if not words:
        return ""
    if len(words) == 1 and (words[0] in _KINDS or words[0].startswith(_PREFIXES)):
        return words[0]
    meant = difflib.get_close_matches(words[0], _KINDS, n=1)
    hint = f"did you mean octad watch {meant[0]}? " if meant else ""
    raise CommandError(
        f"{' '.join(words)!r} is nothing to watch",
        f"{hint}there is {', '.join(_KINDS)}, services/NAME/, service NAME",
        2,
    )


async def _watch(asked: Asked, prefix: str) -> None:
    documents = watch_keys(prefix, coordinator=asked.coordinator, after=asked.after)
    warned = False
    async with aclosing(documents):
        async for document in documents:
            if asked.as_json:
                sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
            else:
                sys.stdout.writelines(lines_of(document))
                sys.stdout.writelines(age_lines(document.age_s, warned))
                warned = shown_old_view(document.age_s) is not None
            sys.stdout.flush()


def age_lines(age_s: float, warned: bool) -> list[str]:
    """Print a line when the view becomes old, and one when it is current again."""
    warning = shown_old_view(age_s)
    if (warning is not None) == warned:
        return []
    return [f"{warning or '! current again'}\n"]


def lines_of(document: EventsDocument) -> list[str]:
    """For people: the present state in short, then each change."""
    return _summary(document) if document.reset else [_line(event) for event in document.events]


def _summary(document: EventsDocument) -> list[str]:
    """A line for each kind: how many there are, and the first of them."""
    kinds: dict[str, list[str]] = {}
    for event in document.events:
        kind, _, name = event.key.partition("/")
        kinds.setdefault(kind, []).append(name)
    there = [f"  {kind}: {_named(names)}\n" for kind, names in sorted(kinds.items())]
    return [
        f"{document.revision}  as of this revision there is{':' if there else ' nothing'}\n",
        *there,
        "from here on: + what came, ~ changed, - went (--json shows what is there in full)\n",
    ]


def _named(names: list[str]) -> str:
    if names == [""]:
        return "1"  # The key is the kind, as that of the leader.
    more = ", …" if len(names) > NAMED_MAX else ""
    return f"{len(names)} ({', '.join(names[:NAMED_MAX])}{more})"


def _line(event: ClusterEvent) -> str:
    value = "" if event.type == "leave" else f"  {bytes(event.value).decode()}"
    return f"{event.revision}  {_SIGNS[event.type]} {event.key}{value}\n"
