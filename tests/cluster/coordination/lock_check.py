"""What must hold of a lock, whatever was done to its holders: values in, faults out.

Times are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from tests.cluster.coordinator.membership_check import Span

LATE_S_MAX = 1.0  # What a takeover takes beyond the time to live.


class Told(msgspec.Struct, frozen=True):
    """What a holder says: it was given the lock, is sure that it holds it, or is to let go."""

    what: str  # "given", "held", "ends"
    holder: str
    token: int
    at: float


class Written(msgspec.Struct, frozen=True):
    """A write that reached what the lock protects, in the order in which it did."""

    holder: str
    token: int
    at: float
    accepted: bool


class Holding(msgspec.Struct, frozen=True):
    """From when a holder was given the lock to when it was last sure to hold it."""

    holder: str
    token: int
    given_at: float
    held_until: float
    let_go: bool


def holdings_of(told: Iterable[Told]) -> list[Holding]:
    """In the order of their tokens; a token that two were given is two of them."""
    by_holding: dict[tuple[int, str], list[Told]] = {}
    for each in told:
        by_holding.setdefault((each.token, each.holder), []).append(each)
    found = []
    for (token, holder), all_told in sorted(by_holding.items()):
        given = [each.at for each in all_told if each.what == "given"]
        begun = min(given, default=all_told[0].at)
        until = max(each.at for each in all_told)
        found.append(
            Holding(holder, token, begun, until, any(each.what == "ends" for each in all_told))
        )
    return found


def held_by_two(holdings: Sequence[Holding], but: Sequence[Span]) -> list[str]:
    """Two holders at a time, a token given twice, or one that is not higher than the last.

    `but`: when etcd itself may have ended a lease that it had renewed. Tokens grow even then.
    """
    faults = [
        f"{one.holder} and {other.holder} were both given token {one.token}"
        for one, other in pairwise(holdings)
        if one.token == other.token
    ]
    for number, one in enumerate(holdings):
        for other in holdings[number + 1 :]:
            if other.given_at < one.given_at:
                faults.append(
                    f"token {other.token} was given at {other.given_at:.2f}, before"
                    f" {one.token} at {one.given_at:.2f}"
                )
            elif other.given_at < one.held_until and not any(
                span.overlaps(other.given_at, one.held_until) for span in but
            ):
                faults.append(
                    f"{one.holder} held it until {one.held_until:.2f} (token {one.token}), and"
                    f" {other.holder} from {other.given_at:.2f} on (token {other.token})"
                )
    return faults


def taken_over_late(holdings: Sequence[Holding], slow: Sequence[Span], ttl_s: float) -> list[str]:
    """No one held it for too long, though someone always wanted it.

    `slow`: faults; the time to live begins anew when one is over.
    """
    faults = []
    for one, other in pairwise(holdings):
        by = one.held_until + LATE_S_MAX + (0.0 if one.let_go else ttl_s)
        for span in sorted(slow, key=lambda span: span.begun_at):
            if span.overlaps(one.held_until, by):
                by = max(by, span.ended_at + ttl_s + LATE_S_MAX)
        if other.given_at > by:
            faults.append(
                f"{other.holder} was given it at {other.given_at:.2f}, by {by:.2f} it should have"
                f" been: {one.holder} had it until {one.held_until:.2f}"
            )
    return faults


def not_fenced(written: Iterable[Written], told: Iterable[Told]) -> list[str]:
    """Writes that were accepted after a newer holder's, or by no holder at all."""
    given = {(each.holder, each.token) for each in told}
    highest, faults = 0, []
    for write in written:
        if not write.accepted:
            continue
        if write.token < highest:
            faults.append(
                f"a write of {write.holder} with token {write.token} was accepted after {highest}"
            )
        if (write.holder, write.token) not in given:
            faults.append(f"{write.holder} was never given token {write.token}")
        highest = max(highest, write.token)
    return faults
