"""Which requests a shard has in its log, so that a retry is applied once (rule R16).

Every write carries a request id (the front door's boot and a counter) in its entry, and the copy
that a new member gets carries all of them. The window holds the ids of all entries not yet applied,
and of the applied ones for longer than any retry, but no more than a bound: a retry that comes when
the window no longer reaches back to its first attempt is refused as unknown, never executed.

Kept of a request is the seq of its entry and, if the entry refuses it (rule R22), the refusal's
code: one number with the code in its highest byte.

Each replica drops ids by its own clock. It need not agree with the others, but must know from when
on it has them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from octad.sharding.ids import Seq
from octad.sharding.limits import REQUEST_IDS_S, RPC_TRANSIT_S_MAX

REQUEST_IDS_MAX: Final = 8192  # Per shard; beyond it, late retries are answered "unknown".

_LOOK_EVERY_S = 1.0  # Finding a dict's oldest entry costs time for each one dropped.

REFUSAL_CODE_MAX: Final = 255
Outcome: TypeAlias = Seq  # A seq with a refusal's code above it.
_CODE_SHIFT = 56
_SEQ_MASK = (1 << _CODE_SHIFT) - 1


def refused_at(seq: Seq, code: int) -> Outcome:
    """The outcome of a request that the entry at `seq` refuses; without that it is the seq."""
    assert 0 < code <= REFUSAL_CODE_MAX
    return Seq(code << _CODE_SHIFT | seq)


def seq_of(outcome: Outcome) -> Seq:
    """The entry's seq."""
    return Seq(outcome & _SEQ_MASK)


def refusal_of(outcome: Outcome) -> int:
    """The refusal's code; 0: the request was executed."""
    return outcome >> _CODE_SHIFT


class RequestWindow:
    """See the module. Ids are kept in the order of their entries."""

    __slots__ = ("_look_again_at", "_outcomes", "_refused", "_times", "complete_since")

    def __init__(self) -> None:
        self._outcomes: dict[bytes, Outcome] = {}
        self._times: dict[bytes, float] = {}  # When each was applied here.
        self._refused: dict[bytes, tuple[float, int]] = {}  # When, and why. See `refuse`.
        self.complete_since = float("-inf")  # Ids of requests made later are all here.
        self._look_again_at = float("-inf")  # For those that are old enough to be dropped.

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, request_id: bytes, outcome: Outcome) -> None:
        """An entry carries this id."""
        self._outcomes[request_id] = outcome

    def remove(self, request_id: bytes, seq: Seq) -> None:
        """That entry was truncated: it never happened, unless another replica's copy says so."""
        if seq_of(self._outcomes.get(request_id, Seq(0))) == seq and request_id not in self._times:
            del self._outcomes[request_id]

    def forget_above(self, seq: Seq) -> None:
        """What came with a copy and stands above `seq` was given up: it never happened here."""
        above = [each for each, outcome in self._outcomes.items() if seq_of(outcome) > seq]
        for request_id in above:
            del self._outcomes[request_id]
            self._times.pop(request_id, None)

    def find(self, request_id: bytes) -> Outcome | None:
        """Where the request stands in the log, if it does."""
        return self._outcomes.get(request_id)

    def refuse(self, request_id: bytes, code: int, now: float) -> None:
        """The request is answered with a refusal, and so are its later attempts.

        Only this process remembers it. That is enough for all attempts of one front door: a process
        that begins to lead later executes none that was made before (rules R3, R22).
        """
        refused = self._refused
        refused[request_id] = now, code
        oldest = next(iter(refused))
        if len(refused) > REQUEST_IDS_MAX:
            self.complete_since = max(self.complete_since, refused.pop(oldest)[0])
        elif now - refused[oldest][0] > REQUEST_IDS_S:
            del refused[oldest]

    def was_refused(self, request_id: bytes) -> int:
        """The code that `refuse` was called with for it, not too long ago; else 0."""
        known = self._refused.get(request_id)
        return 0 if known is None else known[1]

    def reaches_back(self, age_s: float, now: float) -> bool:
        """Whether a request first made `age_s` ago would be here if it had been ordered.

        Its age is that of the moment at which it was sent: how long it was on its way comes to it.
        Ids are kept for as much longer; but where some were dropped for their number, an id that
        was may be of a request which only looks younger than the last of those.
        """
        first_made = now - age_s - RPC_TRANSIT_S_MAX
        return age_s <= REQUEST_IDS_S and first_made >= self.complete_since

    def applied(self, request_ids: Iterable[bytes], now: float) -> list[tuple[bytes, Outcome]]:
        """These are applied at `now`; returns the ids that are dropped."""
        times, outcomes = self._times, self._outcomes
        for request_id in request_ids:
            if request_id in outcomes:
                times[request_id] = now
        if now < self._look_again_at and len(times) <= REQUEST_IDS_MAX:
            return []
        self._look_again_at = now + _LOOK_EVERY_S
        dropped: list[tuple[bytes, Outcome]] = []
        while times:
            oldest, applied_at = next(iter(times.items()))
            if len(times) > REQUEST_IDS_MAX:
                self.complete_since = applied_at
            elif now - applied_at <= REQUEST_IDS_S:
                break
            del times[oldest]
            outcome = outcomes.pop(oldest, None)
            if outcome is not None:
                dropped.append((oldest, outcome))
        return dropped

    def restore(self, pairs: Iterable[tuple[bytes, Outcome]], now: float) -> None:
        """Takes what `pairs` returned before a restart, or at the replica that was copied."""
        for request_id, outcome in pairs:
            self._outcomes.setdefault(request_id, outcome)
            self._times.setdefault(request_id, now)
        if len(self._times) >= REQUEST_IDS_MAX:
            self.complete_since = now  # What was dropped before is unknown.

    def half(self) -> RequestWindow:
        """A copy: it is unknown which half has a request's key (rule R18)."""
        window = RequestWindow()
        window._outcomes, window._times = dict(self._outcomes), dict(self._times)
        window._refused = dict(self._refused)
        window.complete_since = self.complete_since
        return window

    def pairs(self) -> list[tuple[bytes, Outcome]]:
        """Every id of an applied entry: what a copy of the shard takes along."""
        return [(request_id, self._outcomes[request_id]) for request_id in self._times]
