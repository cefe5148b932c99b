"""The servers that a client knows: how each one does, and which is asked next."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Collection
from enum import Enum
from os import urandom
from typing import Final, NamedTuple

from octad.client.errors import BreakerOpen
from octad.client.http.connection import Connection
from octad.client.http.transport import Address, Gate, Proxy
from octad.client.resilience.breaker_state import BreakerState, State
from octad.client.resilience.concurrency_limit import ConcurrencyLimit

IDLE_MAX: Final = 256  # Connections a node.
IDLE_S_MAX: Final = 50.0  # Nodes of octad close theirs after 75 s, many other servers after 60.
LOOKED_AT_AFTER_S: Final = 1.0  # A connection that was idle for longer may have been closed.


def chance() -> float:
    """A number from 0 to 1, for what is spread at random. (`random` is slow to import.)"""
    return int.from_bytes(urandom(4)) / 0xFFFFFFFF


class Outcome(Enum):
    """What a request says of its node."""

    SUCCESS = "it answers"
    FAILURE = "it does not, or not well"
    OVERLOAD = "it has too much to do"
    NOTHING = "the request was given up here"


class NodeState(NamedTuple):
    """How a node does, as `Client.nodes` shows it.

    `limit`: how many requests it may have at a time, as things are; `opened`: how often its
    breaker has opened.
    """

    address: str
    breaker: State
    opened: int
    in_flight: int
    limit: int
    idle_connections: int


class Node:
    """One server. What several threads change together is under its lock."""

    __slots__ = ("_idle", "_limit", "_lock", "address", "breaker", "gate", "proxy")

    def __init__(self, address: Address, proxy: Proxy | None, gate: Gate) -> None:
        self.address = address
        self.proxy = proxy
        self.breaker = BreakerState()
        self.gate = gate
        self._limit = ConcurrencyLimit()
        self._lock = allocate_lock()
        self._idle: list[Connection] = []

    def start(self) -> bool:
        """Begin a request, if the node may have one more. `finish` must follow."""
        with self._lock:
            if self._limit.is_reached:
                return False
            self._limit.on_start()
            return True

    def finish(self, outcome: Outcome, now: float) -> None:
        with self._lock:
            if outcome is Outcome.SUCCESS:
                self._limit.on_success()
                self.breaker.on_success()
            elif outcome is Outcome.NOTHING:
                self._limit.on_other_end()
                self.breaker.on_nothing()
            else:
                if outcome is Outcome.OVERLOAD:
                    self._limit.on_overload()
                else:
                    self._limit.on_other_end()
                self.breaker.on_failure(now, chance())
        self.gate.open()

    def take_idle(self, now: float) -> Connection | None:
        """A connection that is likely to be open still."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # Another thread has it.
                return None
            idle_s = now - connection.idle_since
            if idle_s < LOOKED_AT_AFTER_S:
                return connection
            if idle_s < IDLE_S_MAX and not connection.transport.is_readable():
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection, now: float) -> None:
        """For the next request; closed where it is good for none."""
        if connection.is_reusable and len(self._idle) < IDLE_MAX:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """All that is idle; what is under way ends by itself."""
        while self._idle:
            self._idle.pop().close()

    def state(self, now: float) -> NodeState:
        return NodeState(
            self.address.authority,
            self.breaker.state(now),
            self.breaker.opened,
            self._limit.in_flight,
            self._limit.limit,
            len(self._idle),
        )


class Nodes:
    """All of them, and the turn that they take."""

    def __init__(
        self, new_gate: Callable[[], Gate], proxy_for: Callable[[Address], Proxy | None]
    ) -> None:
        self._new_gate = new_gate
        self._proxy_for = proxy_for
        self._nodes: dict[Address, Node] = {}
        self._ring: tuple[Node, ...] = ()
        self._turn = 0

    def set_addresses(self, addresses: Collection[Address]) -> None:
        """These and no others. What is known of those that stay is kept."""
        former = self._nodes
        self._nodes = {
            each: former.get(each) or Node(each, self._proxy_for(each), self._new_gate())
            for each in addresses
        }
        self._ring = tuple(self._nodes.values())
        for address, node in former.items():
            if address not in self._nodes:
                node.close()

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(self._nodes)

    def at(self, address: Address) -> Node | None:
        return self._nodes.get(address)

    def choose(self, preferred: Node | None, tried: Collection[Node], now: float) -> Node:
        """The next one to ask; raises BreakerOpen where none may be.

        `preferred` first, and last those that were tried already.
        """
        if preferred is not None and preferred not in tried and preferred.breaker.admits(now):
            return preferred
        self._turn += 1
        ring = self._ring
        count = len(ring)
        if count == 1:
            candidates = ring
        else:
            begin = self._turn % count
            candidates = ring[begin:] + ring[:begin]
        for node in candidates:
            if node not in tried and node.breaker.admits(now):
                return node
        for node in candidates:
            if node in tried and node.breaker.admits(now):
                return node
        soonest = min(candidates, key=lambda node: node.breaker.admits_in(now))
        raise BreakerOpen(soonest.address.url, soonest.breaker.admits_in(now))

    def states(self, now: float) -> list[NodeState]:
        return [node.state(now) for node in self._ring]

    def close(self) -> None:
        for node in self._ring:
            node.close()
