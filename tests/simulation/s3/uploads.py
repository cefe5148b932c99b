"""Multipart uploads: what clients asked of each, and whether an upload could answer so.

The model of an upload is its parts while it is open, then how it ended. What a completion does to
its key is in the history of that key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.s3.model_check import INFINITE, Step, is_linearizable

Parts = tuple[tuple[int, str], ...]
"""(number, entity tag) of each, in order."""

Effect = Callable[[Any], Iterable[Any]]

ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Upload:
    """One that was begun. The state of its model: Parts, ("completed", Parts) or ABORTED."""

    key: str
    id: str
    begun: float  # When its client had heard of it.
    history: list[Step] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)  # Of parts, by entity tag.
    sent: dict[int, str] = field(default_factory=dict)  # What its clients know of its parts.
    ended: float = INFINITE  # When its end was asked for first.
    gone: float = INFINITE  # When it was known to have ended.

    def asked(self, now: float, what: str, effect: Effect) -> Step:
        """Its outcome is set when it is known."""
        step = Step(now, effect, what)
        self.history.append(step)
        return step

    def ends(self, now: float) -> None:
        self.ended = min(self.ended, now)


class Uploads:
    """All of them, and listings of them."""

    def __init__(self) -> None:
        self.all: list[Upload] = []
        self._violations: list[str] = []

    def begun(self, key: str, upload: str, now: float) -> Upload:
        self.all.append(Upload(key, upload, now))
        return self.all[-1]

    def listed(self, called: float, returned: float, found: Iterable[tuple[str, str]]) -> None:
        """All open uploads of the bucket were asked for."""
        names = list(found)
        if names != sorted(set(names)):
            self._violations.append(f"uploads are not in order: {names}")
        for upload in self.all:
            there = (upload.key, upload.id) in names
            if there and upload.gone <= called:
                self._violations.append(f"upload {upload.id} is listed after its end")
            if not there and upload.begun <= called and upload.ended > returned:
                self._violations.append(f"upload {upload.id} is open and not listed")

    def violations(self) -> list[str]:
        found = list(self._violations)
        for upload in self.all:
            if not is_linearizable(upload.history, ()):
                steps = sorted(upload.history, key=lambda step: step.called)
                story = "\n".join(f"{s.called:9.4f} … {s.returned:9.4f} {s.what}" for s in steps)
                found.append(f"upload {upload.id} of {upload.key}:\n{story}")
        return found


# -- what a request does to the model ----------------------------------------------------------


def is_open(state: Any) -> bool:
    return isinstance(state, tuple) and "completed" not in state[:1]


def puts(number: int, etag: str) -> Effect:
    """A part was taken: the upload was open."""

    def effect(state: Any) -> Iterable[Any]:
        if is_open(state):
            yield with_part(state, number, etag)

    return effect


def completes(parts: Parts) -> Effect:
    """Of the parts that it has; or it has been completed with them before."""

    def effect(state: Any) -> Iterable[Any]:
        if is_open(state) and set(parts) <= set(state):
            yield "completed", parts
        elif state == ("completed", parts):
            yield state

    return effect


def aborts(state: Any) -> Iterable[Any]:
    """It was open."""
    if is_open(state):
        yield ABORTED


def finds_none(state: Any) -> Iterable[Any]:
    """The answer was that there is no such upload."""
    if not is_open(state):
        yield state


def lacks(parts: Parts) -> Effect:
    """The answer was that one of these is not there."""

    def effect(state: Any) -> Iterable[Any]:
        if is_open(state) and not set(parts) <= set(state):
            yield state

    return effect


def shows(number: int, etag: str | None) -> Effect:
    """A listing of parts: one of them. The upload may end between its head and its parts."""

    def effect(state: Any) -> Iterable[Any]:
        if not is_open(state):
            if etag is None:
                yield state
        elif dict(state).get(number) == etag:
            yield state

    return effect


def with_part(parts: Sequence[tuple[int, str]], number: int, etag: str) -> Parts:
    return tuple(sorted({**dict(parts), number: etag}.items()))
