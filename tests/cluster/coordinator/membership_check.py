"""What must hold of registrations and watchers, whatever was done to them: values in, faults out.

Times are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LISTED_S_MAX = 2.0  # After an acknowledged registration or renewal.
GONE_LATE_S_MAX = 1.0  # After the time to live of one that died.


@dataclass(frozen=True, slots=True)
class Stored:
    """One change of one instance's key, as etcd has it; None: deleted."""

    revision: int
    name: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watcher was told; `names` are those of a reset."""

    type: str
    revision: int
    name: str = ""
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A first registration of an instance, or a renewal: what begins its time to live."""

    name: str
    sent_at: float
    told_at: float


@dataclass(frozen=True, slots=True)
class Poll:
    """The list, read from etcd at some time between two."""

    begun_at: float
    ended_at: float
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which something was done."""

    begun_at: float
    ended_at: float

    def overlaps(self, begun_at: float, ended_at: float) -> bool:
        return self.begun_at <= ended_at and begun_at <= self.ended_at


@dataclass(slots=True)
class Death:
    """A process that was killed: its instances, and when another one took their place."""

    names: frozenset[str]
    at: float
    replaced_at: float = field(default=float("inf"))


def told_wrong(seen: Sequence[Seen], history: Iterable[Stored]) -> list[str]:
    """How what a watcher saw differs from one reset and every change since, once and in order."""
    if not seen or seen[0].type != "reset":
        return ["it did not begin with a reset"]
    begun = seen[0].revision
    state: dict[str, bytes] = {}
    then: frozenset[str] | None = None
    expected: list[Seen] = []
    for change in sorted(history, key=lambda change: change.revision):
        if change.revision > begun and then is None:
            then = frozenset(state)
        told = _applied(state, change)
        if told is not None and change.revision > begun:
            expected.append(told)
    faults = []
    if seen[0].names != (frozenset(state) if then is None else then):
        faults.append(f"the reset of revision {begun} is not what was there")
    got = list(seen[1:])
    if got == expected:
        return faults
    resets = sum(event.type == "reset" for event in got)
    at = next(
        (n for n, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]),
        min(len(got), len(expected)),
    )
    faults.append(
        f"{len(got)} events and not {len(expected)}, {resets} of them resets; from the {at}. on"
        f" {got[at : at + 2]} in place of {expected[at : at + 2]}"
    )
    return faults


def _applied(state: dict[str, bytes], change: Stored) -> Seen | None:
    before = state.get(change.name)
    if change.value is None:
        state.pop(change.name, None)
        return None if before is None else Seen("leave", change.revision, change.name)
    state[change.name] = change.value
    if before == change.value:
        return None  # Only its lease is another one.
    return Seen("join" if before is None else "change", change.revision, change.name)


def invisible(
    polls: Iterable[Poll], acknowledged: Iterable[Acknowledged], ttl_s: float, but: Sequence[Span]
) -> list[str]:
    """Instances that were told that they are registered, and were not listed.

    `but`: when etcd itself may have ended a lease that it had renewed.
    """
    by_name: dict[str, list[Acknowledged]] = defaultdict(list)
    for each in sorted(acknowledged, key=lambda each: each.told_at):
        by_name[each.name].append(each)
    told_at = {name: [each.told_at for each in each_of] for name, each_of in by_name.items()}
    faults = []
    for poll in polls:
        for name, acks in by_name.items():
            if name in poll.names:
                continue
            number = bisect_right(told_at[name], poll.begun_at - LISTED_S_MAX)
            alive_until = max((ack.sent_at + ttl_s for ack in acks[:number][-3:]), default=0.0)
            if poll.ended_at >= alive_until:
                continue
            if any(span.overlaps(poll.begun_at, poll.ended_at) for span in but):
                continue
            faults.append(
                f"{name} is not listed at {poll.begun_at:.2f}, though it was told at"
                f" {told_at[name][number - 1]:.2f} that it is"
            )
    return faults


def lingering(
    polls: Iterable[Poll], deaths: Iterable[Death], ttl_s: float, etcd_faults: Sequence[Span]
) -> list[str]:
    """Instances that are listed though their process has died.

    A fault of etcd begins all times to live anew when it is over.
    """
    polls = list(polls)
    faults = []
    for death in deaths:
        gone_by = death.at + ttl_s + GONE_LATE_S_MAX
        for span in sorted(etcd_faults, key=lambda span: span.begun_at):
            if span.overlaps(death.at, gone_by):
                gone_by = max(gone_by, span.ended_at + ttl_s + GONE_LATE_S_MAX)
        for poll in polls:
            late = death.names & poll.names
            if gone_by < poll.begun_at and poll.ended_at < death.replaced_at and late:
                faults.append(
                    f"{', '.join(sorted(late))} listed at {poll.begun_at:.2f}, though dead since"
                    f" {death.at:.2f} and to be gone by {gone_by:.2f}"
                )
    return faults
