"""Counts of what happened between this node and its peers: plain numbers that a collector reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PeerFigures:
    """Since the start of the process, of all peers. What was refused is in `Peers.refusals`."""

    connections: int = 0  # Connections opened.
    messages_dropped: int = 0  # One-way, since too much was waiting for that peer.
    calls_refused: int = 0  # Failed at once: not connected, silent, or too much under way.
    calls_timed_out: int = 0
    requests_refused: int = 0  # Requests of peers that exceed their limit.
