"""Was what the clients saw allowed? Per-key linearizability, wrong bytes, and agreement at the end.

Every read counts: a GET, and each key of a LIST, whose entity tag says which write it shows. The
final reads are part of the history, so that a lost write is a read that cannot be explained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from octad.chaos.check.linearizability import (
    INFINITE,
    Done,
    Verdict,
    check,
    first_violation,
)
from octad.chaos.load.history import ANY, NOT_MET, ClientRequest, Kind, Outcome

STATES_MAX = 300_000
STORY_LINES_MAX = 40


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: in a word, on which key, and what led to it."""

    what: str
    key: str
    story: str


@dataclass(frozen=True, slots=True)
class Checked:
    """`undecided`: keys whose history was too hard to decide."""

    keys: int
    violations: tuple[Violation, ...]
    undecided: tuple[str, ...]


def check_history(history: Sequence[ClientRequest]) -> Checked:
    """Check every key separately."""
    by_key = _by_key(history)
    violations = list(_wrong_bytes(history))
    undecided = []
    for key, of_key in by_key.items():
        verdict = check([done for done, _ in of_key], states_max=STATES_MAX)
        if verdict is Verdict.UNDECIDED:
            undecided.append(key)
        elif verdict is Verdict.VIOLATED:
            violations.append(Violation("not linearizable", key, _story(key, of_key)))
    return Checked(len(by_key), tuple(violations), tuple(undecided))


def _by_key(history: Sequence[ClientRequest]) -> dict[str, list[tuple[Done, ClientRequest]]]:
    by_key: defaultdict[str, list[tuple[Done, ClientRequest]]] = defaultdict(list)
    for request in history:
        for key in request.asked.keys:
            done = _done(request, key)
            if done is not None:
                by_key[key].append((done, request))
    return by_key


def _done(request: ClientRequest, key: str) -> Done | None:
    """Returns a request's observation of `key`; None if it has none."""
    asked, answer = request.asked, request.answer
    if request.outcome is Outcome.FAILED:
        return None
    if request.outcome is Outcome.UNKNOWN or answer is None:
        if not asked.kind.is_write:
            return None
        return Done(asked.at, INFINITE, True, asked.value, asked.if_match)
    if asked.kind.is_write:
        refused = answer.status in NOT_MET
        return Done(asked.at, answer.at, True, asked.value, asked.if_match, refused)
    if key not in answer.seen:
        return None  # Wrong bytes, which are a violation by themselves.
    return Done(asked.at, answer.at, False, answer.seen[key])


def _wrong_bytes(history: Sequence[ClientRequest]) -> list[Violation]:
    violations = []
    for request in history:
        asked, answer = request.asked, request.answer
        if answer is not None and not asked.kind.is_write and answer.outcome is Outcome.OK:
            for key in asked.keys:
                if key not in answer.seen:
                    violations.append(Violation("wrong bytes", key, _line(request, key)))
    return violations


def _story(key: str, of_key: list[tuple[Done, ClientRequest]]) -> str:
    """The operations around the first one that cannot be explained."""
    culprit = first_violation([done for done, _ in of_key])
    in_order = sorted(of_key, key=lambda pair: pair[0].called)
    if culprit is not None:
        upto = [pair for pair in in_order if pair[0].called <= culprit.returned]
        related = [
            pair for pair in upto if pair[0].value == culprit.value or pair[0].returned == INFINITE
        ]
        last = upto[-STORY_LINES_MAX // 2 :]
        in_order = [pair for pair in in_order if pair in related[-STORY_LINES_MAX:] or pair in last]
    lines = []
    for done, request in in_order[:STORY_LINES_MAX]:
        mark = "→ " if done is culprit else "  "
        lines.append(mark + _line(request, key))
    return "\n".join(lines)


def _line(request: ClientRequest, key: str) -> str:
    asked, answer = request.asked, request.answer
    end = f"{answer.at:9.3f}" if answer is not None else "   never "
    what = f"{asked.kind} {asked.value}" if asked.kind is Kind.PUT else str(asked.kind)
    if asked.if_match != ANY:
        what += f" if {asked.if_match}"
    seen = ""
    if answer is not None and not asked.kind.is_write:
        seen = f" saw {answer.seen.get(key, 'foreign bytes')}"
    error = f" {answer.status} {answer.error}" if answer is not None else ""
    return (
        f"#{asked.id:<6} {asked.at:9.3f} … {end} client {asked.client} at n{asked.node}: "
        f"{what} {request.outcome}{seen}{error}".rstrip()
    )
