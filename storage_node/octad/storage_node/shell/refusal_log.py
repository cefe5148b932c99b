"""Counts what was refused from peers, and says so once per peer and reason in a while."""

from __future__ import annotations

import logging
import time
from collections import Counter

from octad.sharding.limits import RPC_REFUSAL_LOG_S
from octad.storage_node.core.peer_refusal import PeerRefused, Refusal

PEERS_REMEMBERED_MAX = 1024

logger = logging.getLogger(__name__)


class RefusalLog:
    """`counts` are for metrics; the log is for people, so a flood of strangers cannot fill it."""

    def __init__(self) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._logged_at: dict[tuple[str, Refusal], float] = {}

    def add(self, peer: str, refused: PeerRefused) -> None:
        """Counts, and logs unless it did so for this peer and reason within the last minute."""
        self.counts[refused.reason] += 1
        now = time.monotonic()
        key = (peer, refused.reason)
        if now - self._logged_at.get(key, -RPC_REFUSAL_LOG_S) < RPC_REFUSAL_LOG_S:
            return
        if len(self._logged_at) >= PEERS_REMEMBERED_MAX:
            self._forget_old(now)
            if len(self._logged_at) >= PEERS_REMEMBERED_MAX:
                return  # The counter still tells.
        self._logged_at[key] = now
        logger.warning("refused %s: %s", peer, refused)

    def _forget_old(self, now: float) -> None:
        self._logged_at = {
            key: at for key, at in self._logged_at.items() if now - at < RPC_REFUSAL_LOG_S
        }
