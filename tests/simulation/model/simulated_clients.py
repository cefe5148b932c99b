"""Clients at the nodes' front doors: they read, write and list a few keys, append to a few logs,
and remember what they saw. A shard at its first depth holds three keys and a log, or four keys.

Many a writer does not wait for its front door's patience to end, but tries again through another
one, as an SDK does. It hears its newest try alone; the older ones go on where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.model.node_disk import key_hash
from tests.simulation.model.simulated_front_doors import KEYS, LOGS, FrontDoors, Request

from octad.chaos.check.linearizability import ANY, INFINITE, Done, Verdict, check, items
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.shard_log import Entry

if TYPE_CHECKING:
    from tests.simulation.model.simulated_node import Process


SDK_ATTEMPTS_MAX = 3
ATTEMPTS_S = 15.0  # No attempt lies anywhere for longer since the first one was made.


@dataclass(slots=True, eq=False)
class Invocation:
    """One operation of one client, however often it is tried."""

    key: bytes
    kind: str  # As a request's.
    value: str | None
    condition: Any
    began: float
    request_id: bytes
    finish: Callable[[str, Any], None]
    done: Done | None  # None: a list.
    attempts: int = 0
    finished: bool = False


@dataclass(slots=True)
class Clients(FrontDoors):
    """See the module."""

    history: dict[bytes, list[Done]] = field(default_factory=dict)
    seen: dict[tuple[int, bytes], Any] = field(default_factory=dict)
    stopped: bool = False
    answered: int = 0
    unknown: int = 0
    refused: int = 0
    lists: int = 0
    appends: int = 0
    impatient: bool = False  # Whether some try again,
    hasty: bool = False  # before anyone can have answered.
    sdk_retries: int = 0
    tried_elsewhere: set[int] = field(default_factory=set)  # The ids of what is in the history.
    last: Invocation | None = None  # For those who tell what its next attempt is.
    refused_for_good: set[bytes] = field(default_factory=set)  # The ids of those requests.
    undecided: int = 0  # Histories that the search gave up: they prove nothing.

    # -- the client ----------------------------------------------------------------------------

    def start(self, clients: int) -> None:
        self.impatient = self.world.random.random() < 0.6
        self.hasty = Random(f"haste {self.world.seed}").random() < 0.15
        self.world.after(0.3, self.probe)
        for client in range(clients):
            self.world.after(0.3 + client * 0.01, self.next_operation, client)

    def probe(self) -> None:
        """Reads wherever a replica believes that it may, and perhaps should not any more."""
        world = self.world
        if self.stopped:
            return
        world.after(world.random.random() * 0.1, self.probe)
        running = world.processes()
        if not running:
            return
        process = world.random.choice(running)
        key = KEYS[int(world.random.random() * len(KEYS))]
        for replica in process.replicas.values():
            self.read_at(process, replica, key)

    def read_at(self, process: Process, replica: ShardReplica, key: bytes) -> Done | None:
        """A read that only this node may answer; None when it knows that it may not."""
        done = Done(self.world.time, INFINITE, False, None)

        def answer(outcome: str, found: str | None = None) -> None:
            if outcome == "done":
                done.returned, done.value = self.world.time, found
                self.local_reads += 1

        if process.is_paused() or not self._read(process, replica, key, answer):
            return None
        self.history.setdefault(key, []).append(done)
        return done

    def next_operation(self, client: int) -> None:
        """Something at a running node; the next one follows its answer."""
        world = self.world
        if self.stopped:
            return
        running = world.processes()
        if not running:
            world.after(0.2, self.next_operation, client)
            return
        random = world.random
        front = random.choice(running)
        key = KEYS[int(random.random() * len(KEYS))]
        dice = random.random()
        if dice < 0.1:
            self.list_all(client, front, key)
        elif dice < 0.5:
            self.request(client, front, key, False, None)
        elif key in LOGS:
            seen = self.seen.get((client, key))
            expected = items(seen) if random.random() < 0.3 else ANY
            self.append(client, front, key, f"i{world.next_number()}", expected)
        else:
            if_match: str | None = ANY
            if dice > 0.75:
                if_match = self.seen.get((client, key)) if random.random() < 0.8 else None
            value = None if dice < 0.56 or dice > 0.96 else f"v{world.next_number()}"
            self.request(client, front, key, True, value, if_match)

    def request(
        self,
        client: int,
        front: Process,
        key: bytes,
        is_write: bool,
        value: str | None,
        if_match: str | None = ANY,
    ) -> Done:
        """Begin a read or a write; it ends in the history."""
        done = Done(self.world.time, INFINITE, is_write, value, if_match)
        self.history.setdefault(key, []).append(done)

        def finish(outcome: str, found: Any) -> None:
            if self._answered(outcome, done):
                if not is_write:
                    done.value = found
                self.seen[client, key] = value if is_write else found
            self._think(client)

        self._begin(front, key, "write" if is_write else "read", value, if_match, finish, done)
        return done

    def append(
        self, client: int, front: Process, key: bytes, item: str, expected: Any = ANY
    ) -> Done:
        """Begin an append behind what stands, or behind `expected` items alone."""
        condition = None if expected == ANY else expected
        done = Done(self.world.time, INFINITE, True, item, ANY, False, True, condition)
        self.history.setdefault(key, []).append(done)

        def finish(outcome: str, found: Any) -> None:
            if self._answered(outcome, done) and not done.refused:
                assert isinstance(found, int)
                done.offset = found
                self.appends += 1
            self._think(client)

        self._begin(front, key, "append", item, expected, finish, done)
        return done

    def list_all(self, client: int, front: Process, key: bytes) -> None:
        """Begin to list the shard of `key`: a read of each of its keys, at any moment of it."""
        called = self.world.time

        def finish(outcome: str, found: Any) -> None:
            if outcome == "done":
                self.answered += 1
                self.lists += 1
                for listed in KEYS:
                    if key_hash(listed) & ((1 << found.depth) - 1) == found.shard:
                        done = Done(called, self.world.time, False, found.values.get(listed))
                        self.history.setdefault(listed, []).append(done)
            self._think(client)

        self._begin(front, key, "list", None, ANY, finish)

    def _answered(self, outcome: str, done: Done) -> bool:
        """Whether the outcome is known; then `done` has returned."""
        if outcome == "unknown":
            self.unknown += 1
            return False
        done.returned = self.world.time
        self.answered += 1
        if outcome == "refused":
            done.refused = True
            self.refused += 1
        return True

    def _think(self, client: int) -> None:
        if client >= 0:
            self.world.after(self.world.random.random() * 0.12, self.next_operation, client)

    def _begin(
        self,
        front: Process,
        key: bytes,
        kind: str,
        value: str | None,
        condition: Any,
        finish: Callable[[str, Any], None],
        done: Done | None = None,
    ) -> None:
        world = self.world
        request_id = world.next_number().to_bytes(16, "big")
        self.last = invocation = Invocation(
            key, kind, value, condition, world.time, request_id, finish, done
        )
        self.try_at(front, invocation)
        random = world.random.random
        if self.impatient and kind in ("write", "append") and random() < 0.5:
            delay = random() ** 2 * 2.5
            delay = delay * 0.02 if self.hasty else delay + 0.1
            world.after(delay, self._try_elsewhere, invocation)

    def try_at(self, front: Process, invocation: Invocation) -> None:
        """One more attempt of the client's, of which it hears from now on."""
        invocation.attempts += 1
        attempt = invocation.attempts
        if attempt > 1:
            self.tried_elsewhere.add(id(invocation.done))

        def finish(outcome: str, found: Any) -> None:
            if invocation.attempts != attempt:
                return
            if outcome == "unknown" and self.impatient and attempt < SDK_ATTEMPTS_MAX:
                self.world.after(0.1, self._try_elsewhere, invocation)
                return
            invocation.finished = True
            if outcome == "refused":
                self.refused_for_good.add(invocation.request_id)
            invocation.finish(outcome, found)

        self.attempt(
            Request(
                self.world.next_number(), front, invocation.key, invocation.kind, invocation.value,
                invocation.condition, invocation.began, front.now(), finish,
                invocation.request_id, attempt,
            )
        )  # fmt: skip

    def _try_elsewhere(self, invocation: Invocation) -> None:
        world = self.world
        running = world.processes()
        if invocation.finished:
            return
        if self.stopped or not running or invocation.attempts == SDK_ATTEMPTS_MAX:
            return
        self.sdk_retries += 1
        self.try_at(world.random.choice(running), invocation)
        delay = 0.1 + world.random.random() * 1.5
        world.after(delay, self._try_elsewhere, invocation)

    def check_not_refused(self, entry: Entry) -> None:
        """What a primary commits has been refused to no one."""
        executed = entry.kind is not RecordKind.REFUSED
        if executed and entry.request_id in self.refused_for_good:
            self.world.fail(f"request {entry.request_id.hex()} was refused, and is committed")

    # -- afterwards ----------------------------------------------------------------------------

    def read_everything(self, process: Process, replica: ShardReplica) -> None:
        """As the last reads of all, of what this node has."""
        now = self.world.time
        for key in KEYS:
            if replica.covers(key_hash(key)):
                value = self.standing(process, key)
                self.history.setdefault(key, []).append(Done(now, now, False, value))

    def check_histories(self) -> None:
        for key, whole in self.history.items():
            cuts = self.world.operator.cuts.get(key, [])
            for at_first, history in pieces(whole, cuts, self.tried_elsewhere):
                self._check_history(key, at_first, history)

    def _check_history(self, key: bytes, at_first: str | None, history: list[Done]) -> None:
        verdict = check(history, at_first)
        if verdict is Verdict.UNDECIDED:
            self.undecided += 1
        elif verdict is Verdict.VIOLATED:
            lines = [
                f"{d.called:9.4f} … {d.returned:9.4f} "
                + (f"append {d.value} at {d.offset}, " if d.appends else "")
                + (f"write {d.value} if {d.if_match}" if d.is_write else f"read {d.value}")
                + (" refused" if d.refused else "")
                for d in sorted(history, key=lambda d: d.called)
            ]
            story = "\n".join(lines)
            self.world.fail(f"key {key!r} is not linearizable:\n{story}")


def pieces(
    history: list[Done],
    cuts: list[tuple[float, str | None]],
    tried_elsewhere: Container[int] = (),
) -> Iterator[tuple[str | None, list[Done]]]:
    """The history between two recoveries by force each, and what stood at first.

    What a recovery met under way may have happened before it, after it, or both: so it may have,
    and nothing is concluded from its answer. What is refused in the end may have happened before,
    and have been lost with its request id. What was answered before, with an earlier attempt still
    lying somewhere, may happen after it: no one remembers the answer.
    """
    borders = [(-INFINITE, None), *cuts, (INFINITE, None)]
    for (begin, at_first), (end, _) in pairwise(borders):
        inside = [done for done in history if begin <= done.called and done.returned < end]
        if end == INFINITE:
            inside += [d for d in history if begin <= d.called and d.returned == INFINITE]
        across = [
            replace(done, returned=INFINITE, offset=None, refused=False)
            for done in history
            if done.called < end and done.returned >= begin and done.is_write
            if done.called < begin or (done.returned >= end and end != INFINITE)
            if not done.refused or done.returned >= end
        ]
        late = [
            replace(done, returned=INFINITE, offset=None, refused=False)
            for done in history
            if id(done) in tried_elsewhere and done.returned < begin < done.called + ATTEMPTS_S
        ]
        yield at_first, inside + across + late
