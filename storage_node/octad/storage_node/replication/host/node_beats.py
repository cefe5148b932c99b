"""Beats between this node and the others: four times a second, and at once when there is news.

What a beat means is in `replication/pair_leases.py`; a beat that is lost is not sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import NodeId
from octad.storage_node.replication.host.full_disks import FullDisks
from octad.storage_node.replication.host.replication_sender import Outbox
from octad.storage_node.replication.lease_messages import Beat, BeatAnswer
from octad.storage_node.replication.pair_leases import PairLeases


class NodeBeats:
    """See the module."""

    def __init__(
        self,
        leases: PairLeases,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
        is_full: Callable[[], bool],
    ) -> None:
        self._leases = leases
        self._outbox = outbox
        self._loop = loop
        self._is_full = is_full
        self._planned = False
        self.disks = FullDisks()

    def send(self) -> None:
        """Send a beat to every node that shares a shard with this one."""
        self._planned = False
        is_full = self._is_full()
        self.disks.note(self._leases.node, is_full, now())
        for node, beat in self._leases.beats(now()):
            said = msgspec.structs.replace(beat, disk_full=True) if is_full else beat
            self._outbox.send(node, said)

    def send_news(self) -> None:
        """Announce a change at once: a lease need not wait for the next beat."""
        if self._leases.beat_soon and not self._planned:
            self._planned = True
            self._loop.call_soon(self.send)

    def on_beat(self, sender: NodeId, beat: Beat) -> None:
        """Answer at once with a promise and a grant."""
        self.disks.note(sender, beat.disk_full, now())
        self._outbox.send(sender, self._leases.on_beat(sender, beat, now()))
        self.send_news()

    def on_answer(self, sender: NodeId, answer: BeatAnswer) -> None:
        """Take its promises and grants; it may ask for a beat with a list."""
        if self._leases.on_answer(sender, answer, now()):
            beat = self._leases.beat(sender, now())
            is_full = self._leases.node in self.disks.now
            self._outbox.send(sender, msgspec.structs.replace(beat, disk_full=is_full))
