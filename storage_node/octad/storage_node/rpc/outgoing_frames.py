"""The send queue of a peer that reads more slowly than frames arrive: two lanes, bounded.

Frames are sealed only when they leave, so urgent ones pass those that wait. Within a lane the order
stays. A request that waited too long is dropped: it states its age, which would be wrong by then
(rule R16). This file decides what is queued and what goes next; it writes nothing.
"""

from __future__ import annotations

from collections import deque

from octad.sharding.limits import (
    KIB,
    RPC_ANSWER_BYTES_MAX,
    RPC_OUTGOING_BYTES_MAX,
    RPC_WAITING_S_MAX,
)
from octad.storage_node.rpc.frame_format import (
    ERROR,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    Buffer,
    FrameSealer,
)

RPC_OUTGOING_FRAMES_MAX = 64 * KIB
RPC_URGENT_FRAMES_MAX = 16 * KIB  # Above this, it reads nothing: the connection is dropped.
RPC_URGENT_CALL_BYTES_MAX = KIB  # A call of that size without a body passes bulk.

Unsealed = tuple[int, int, bytes, Buffer, float]  # Kind, call id, message, body, since when.


class OutgoingFrames:
    """The queue of one connection, whose `sealer` numbers the frames as they leave."""

    def __init__(self, sealer: FrameSealer) -> None:
        self._seal = sealer.seal
        self._urgent: deque[Unsealed] = deque()
        self._in_order: deque[Unsealed] = deque()
        self.bytes = 0  # Waiting, of both lanes.

    def __bool__(self) -> bool:
        return bool(self._urgent or self._in_order)

    def add(
        self, kind: int, call_id: int, message: bytes, body: Buffer, urgent: bool, now: float
    ) -> bool:
        """Takes in a frame, which is within the limits of one; False when there is no room."""
        size = len(message) + len(body)
        if urgent or (kind != ONE_WAY and not body and size <= RPC_URGENT_CALL_BYTES_MAX):
            lane = self._urgent
            room = len(lane) < RPC_URGENT_FRAMES_MAX
        else:
            lane = self._in_order
            answer = kind in {RESPONSE, ERROR}
            bytes_max = RPC_ANSWER_BYTES_MAX if answer else RPC_OUTGOING_BYTES_MAX
            room = self.bytes + size <= bytes_max and len(lane) < RPC_OUTGOING_FRAMES_MAX
        if room:
            lane.append((kind, call_id, message, body, now))
            self.bytes += size
        return room

    def take(self, bytes_max: int, now: float) -> list[Buffer]:
        """The next sealed frames, in order: up to `bytes_max`, and the rest of the last frame.

        All urgent ones come first.
        """
        taken: list[Buffer] = []
        taken_bytes = 0
        while taken_bytes < bytes_max and self:
            frame = (self._urgent or self._in_order).popleft()
            kind, call_id, message, body, since = frame
            self.bytes -= len(message) + len(body)
            if kind == REQUEST and now - since > RPC_WAITING_S_MAX:
                continue  # The caller has given up, or will.
            head = self._seal(kind, call_id, message, body)
            taken.append(head)
            if body:
                taken.append(body)
            taken_bytes += len(head) + len(body)
        return taken

    def clear(self) -> None:
        """The connection is lost, and with it what waited."""
        self._urgent.clear()
        self._in_order.clear()
        self.bytes = 0
