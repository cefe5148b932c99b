"""Counts what was refused from peers, and says so once per peer and reason in a while.

Of one reason it speaks of a few peers only in that time: strangers have as many addresses as they
like, and the counter still counts.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal

RPC_REFUSAL_LOG_S = 60.0  # One line a peer in this time.

PEERS_LOGGED_MAX = 10  # For each reason.

logger = logging.getLogger(__name__)


class RefusalLog:
    """`counts` are for metrics; the log is for people, so a flood of strangers cannot fill it."""

    def __init__(self) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._logged_at: dict[Refusal, dict[str, float]] = {}

    def add(self, peer: str, refused: PeerRefused) -> None:
        """Counts, and logs unless it did so for this peer and reason within the last minute."""
        self.counts[refused.reason] += 1
        now = time.monotonic()
        logged = self._logged_at.get(refused.reason, {})
        recent = {each: at for each, at in logged.items() if now - at < RPC_REFUSAL_LOG_S}
        if peer not in recent and len(recent) < PEERS_LOGGED_MAX:
            recent[peer] = now
            logger.warning("refused %s: %s", peer, refused)
        self._logged_at[refused.reason] = recent
