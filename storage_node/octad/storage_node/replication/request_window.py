"""Which requests a shard has in its log, so that a retry is applied once (rule R16).

Every write carries a request id (the front door's boot and a counter) in its entry; so does the
copy that a new member gets. The window holds the ids of all entries not yet applied, and of the
applied ones for longer than any retry, but no more than a bound: a retry that comes when the
window no longer reaches back to its first attempt is refused as unknown, never executed.

Ids are dropped by each replica on its own clock: which ones a replica dropped is its own affair,
as long as it knows from when on it has them all.
"""

from __future__ import annotations

from collections.abc import Iterable

from octad.sharding.ids import Seq
from octad.sharding.limits import REQUEST_IDS_MAX, REQUEST_IDS_S

_LOOK_EVERY_S = 1.0  # To find the oldest of a dict costs as much as were dropped before it.


class RequestWindow:
    """See the module. Ids are kept in the order of their entries."""

    __slots__ = ("_look_again_at", "_refused", "_seqs", "_times", "complete_since")

    def __init__(self) -> None:
        self._seqs: dict[bytes, Seq] = {}
        self._times: dict[bytes, float] = {}  # Of those applied: when they were, here.
        self._refused: dict[bytes, float] = {}  # When. This process's alone: see `refuse`.
        self.complete_since = float("-inf")  # Ids of requests made later are all here.
        self._look_again_at = float("-inf")  # For those that are old enough to be dropped.

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, request_id: bytes, seq: Seq) -> None:
        """The entry at `seq` carries this id."""
        self._seqs[request_id] = seq

    def remove(self, request_id: bytes, seq: Seq) -> None:
        """That entry was truncated: it never happened, unless another replica's copy says so."""
        if self._seqs.get(request_id) == seq and request_id not in self._times:
            del self._seqs[request_id]

    def find(self, request_id: bytes) -> Seq | None:
        """Where the request stands in the log, if it does."""
        return self._seqs.get(request_id)

    def refuse(self, request_id: bytes, now: float) -> None:
        """The request is answered with a refusal: an attempt of it that comes late is, too.

        Its memory is this process's, and enough: no attempt that was made before another one began
        to lead is executed there (rule R3).
        """
        refused = self._refused
        refused[request_id] = now
        oldest = next(iter(refused))
        if len(refused) > REQUEST_IDS_MAX:
            self.complete_since = max(self.complete_since, refused.pop(oldest))
        elif now - refused[oldest] > REQUEST_IDS_S:
            del refused[oldest]

    def was_refused(self, request_id: bytes) -> bool:
        """Whether `refuse` was called for it, not too long ago."""
        return request_id in self._refused

    def reaches_back(self, age_s: float, now: float) -> bool:
        """Whether a request first made `age_s` ago would be here if it had been ordered."""
        return age_s <= REQUEST_IDS_S and now - age_s >= self.complete_since

    def applied(self, request_ids: Iterable[bytes], now: float) -> list[tuple[bytes, Seq]]:
        """These are applied at `now`; gives the ids (with their seq) that are dropped for it."""
        times, seqs = self._times, self._seqs
        for request_id in request_ids:
            if request_id in seqs:
                times[request_id] = now
        if now < self._look_again_at and len(times) <= REQUEST_IDS_MAX:
            return []
        self._look_again_at = now + _LOOK_EVERY_S
        dropped: list[tuple[bytes, Seq]] = []
        while times:
            oldest, applied_at = next(iter(times.items()))
            if len(times) > REQUEST_IDS_MAX:
                self.complete_since = applied_at
            elif now - applied_at <= REQUEST_IDS_S:
                break
            del times[oldest]
            seq = self._seqs.pop(oldest, None)
            if seq is not None:
                dropped.append((oldest, seq))
        return dropped

    def restore(self, pairs: Iterable[tuple[bytes, Seq]], now: float) -> None:
        """Ids from the index after a restart, or from the copy of another replica."""
        for request_id, seq in pairs:
            self._seqs.setdefault(request_id, seq)
            self._times.setdefault(request_id, now)
        if len(self._times) >= REQUEST_IDS_MAX:
            self.complete_since = now  # What was dropped before, nobody knows any more.

    def half(self) -> RequestWindow:
        """All of it again: nobody knows in which half a request's key is (rule R18)."""
        window = RequestWindow()
        window._seqs, window._times = dict(self._seqs), dict(self._times)
        window._refused = dict(self._refused)
        window.complete_since = self.complete_since
        return window

    def pairs(self) -> list[tuple[bytes, Seq]]:
        """Every id of an applied entry: what a copy of the shard takes along."""
        return [(request_id, self._seqs[request_id]) for request_id in self._times]
