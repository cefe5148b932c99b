"""Buckets that are made and deleted while others put objects there, and whether that can be.

The model of a name: no bucket, or a bucket with the objects in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.s3.model_check import Step, is_linearizable

HEARD_S = 10.0

Objects = frozenset[tuple[str, str]]
"""(key, entity tag) of each."""

Effect = Callable[[Any], Iterable[Any]]


@dataclass(slots=True)
class Bucket:
    """One name. `deletions`: when each was asked for, and when its answer came."""

    history: list[Step] = field(default_factory=list)
    deletions: dict[Step, float] = field(default_factory=dict)

    def asked(self, now: float, what: str, effect: Effect) -> Step:
        step = Step(now, effect, what)
        self.history.append(step)
        return step

    def none_was_found(self, step: Step, now: float, *, is_first: bool = True) -> None:
        """The answer is that there is no such bucket: it was not there, or was being deleted.

        An earlier try may have done what was asked, before the bucket was deleted.
        """
        step.what += ": no such bucket"
        if not is_first:
            return
        step.returned, step.effect = now, finds_none
        if self.may_be_taken_for_deleted(step.called, now):
            self.history.remove(step)

    def may_be_taken_for_deleted(self, called: float, returned: float) -> bool:
        """Whether a node may not have heard yet that a deletion has failed, or of a new bucket.

        Of buckets themselves S3 promises no more than that all nodes hear of them soon.
        """
        return any(
            step.called <= returned and ended + HEARD_S >= called
            for step, ended in self.deletions.items()
        )


class Buckets:
    """By name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.by_name = {name: Bucket() for name in names}

    def violations(self) -> list[str]:
        found = []
        for name, bucket in self.by_name.items():
            if not is_linearizable(bucket.history, None):
                steps = sorted(bucket.history, key=lambda step: step.called)
                story = "\n".join(f"{s.called:9.4f} … {s.returned:9.4f} {s.what}" for s in steps)
                found.append(f"bucket {name}:\n{story}")
        return found


def creates(state: Any) -> Iterable[Any]:
    """Of one's own that is there already, this is what S3 answers, too."""
    yield Objects() if state is None else state


def deletes(state: Any) -> Iterable[Any]:
    if state == Objects():
        yield None


def deletes_or_finds_none(state: Any) -> Iterable[Any]:
    """Somebody who made the bucket anew may have ended the deletion."""
    if not state:
        yield None


def is_not_empty(state: Any) -> Iterable[Any]:
    if state:
        yield state


def finds_none(state: Any) -> Iterable[Any]:
    if state is None:
        yield state


def finds_one(state: Any) -> Iterable[Any]:
    if state is not None:
        yield state


def puts(key: str, etag: str | None) -> Effect:
    """None: deletes the object."""

    def effect(state: Any) -> Iterable[Any]:
        if isinstance(state, frozenset):
            others = {each for each in state if each[0] != key}
            yield frozenset(others | ({(key, etag)} if etag else set()))

    return effect


def reads(key: str, etag: str | None) -> Effect:
    def effect(state: Any) -> Iterable[Any]:
        if isinstance(state, frozenset) and dict(state).get(key) == etag:
            yield state

    return effect
