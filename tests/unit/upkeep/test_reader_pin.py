"""On a full disk nothing is taken from a read that runs and is younger than the pin.

Reads begin, take long and end at doors whose clocks run apart, which are paused, cut off and start
again, while their answers arrive late or never. The real `ReaderPin` and `RunningReads` decide.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from octad.sharding.ids import NodeId
from octad.sharding.limits import CLOCK_DRIFT_MAX
from octad.storage_node.index.rows import ExtentRef
from octad.storage_node.shards import reader_pin
from octad.storage_node.shards.reader_pin import ReaderPin
from octad.storage_node.shards.running_reads import Asking, RunningReads

PIN_S = 300.0
STEPS = 400
EVENTS = ["ask", "look up", "row", "local", *["end"] * 2, "overwrite", *["round"] * 2, "door"]
DOORS = [NodeId(number) for number in (1, 2, 3)]


class Violation(AssertionError):
    """A read has lost what it reads."""


@dataclass
class Clock:
    """Of one machine: it drifts and began anywhere; no one sets it."""

    world: World
    offset: float
    rate: float

    def __call__(self) -> float:
        return self.offset + self.rate * self.world.now


@dataclass
class Read:
    """`saw` is the version of the object that its row showed; None while it waits for the row."""

    began: float
    asking: Asking | None
    saw: int | None = None
    held: ExtentRef | None = None


@dataclass
class Door:
    clock: Clock
    reads: list[Read] = field(default_factory=list)
    paused: bool = False
    cut_off: bool = False

    def __post_init__(self) -> None:
        self.running = RunningReads(self.clock)

    def restart(self) -> None:
        """A process that ends takes its reads with it."""
        self.reads.clear()
        self.running = RunningReads(self.clock)
        self.paused = False


@dataclass
class World:
    """One object that is overwritten again and again, its shard's primary, and the doors."""

    rng: random.Random
    now: float = 0.0
    version: int = 0
    dead: dict[int, float] = field(default_factory=dict)  # Not collected: applied at, by its clock.
    collected: set[int] = field(default_factory=set)
    answers: list[tuple[float, NodeId, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.primary = self.clock()
        self.doors = {number: Door(self.clock()) for number in DOORS}
        self.pin = ReaderPin(PIN_S)

    def clock(self) -> Clock:
        rate = 1 + self.rng.choice([-1, 0, 1]) * CLOCK_DRIFT_MAX
        return Clock(self, self.rng.uniform(0, 1e6), rate)

    def step(self) -> None:
        self.now += self.rng.expovariate(1.0) * self.rng.choice([0.01, 0.1, 1.0, 20.0])
        self.hear()
        door = self.doors[self.rng.choice(DOORS)]
        what = self.rng.choice(EVENTS)
        if what == "door":
            match self.rng.choice(["pause", "cut", "go on", "go on", "restart"]):
                case "pause":
                    door.paused = True
                case "cut":
                    door.cut_off = True
                case "go on":
                    door.paused = door.cut_off = False
                case "restart":
                    door.restart()
        elif what == "overwrite":
            self.version += 1
            self.now += self.rng.choice([0.0, 0.01, 1.0])  # Committed; applied here a little later.
            self.dead[self.version - 1] = self.primary()
        elif what == "round":
            self.round()
        elif not door.paused:
            self.read(door, what)

    def read(self, door: Door, what: str) -> None:
        asked = [read for read in door.reads if read.saw is None]
        coming = [read for read in door.reads if read.saw is not None and read.asking is not None]
        if what == "ask":
            door.reads.append(Read(self.now, door.running.ask()))
        elif what == "look up" and asked:  # At another node.
            asked[0].saw = self.version
        elif what == "row" and coming:
            self.hold(door, coming[0])
        elif what == "local":
            door.reads.append(Read(self.now, None, self.version))
            self.hold(door, door.reads[-1])
        elif what == "end" and door.reads:
            read = door.reads.pop(self.rng.randrange(len(door.reads)))
            if read.saw in self.collected and self.now - read.began <= PIN_S * 0.97:
                raise Violation(f"version {read.saw}, after {self.now - read.began:.1f} s")

    def hold(self, door: Door, read: Read) -> None:
        read.held = ExtentRef(bytes(16), 1)
        door.running.hold(read.held, read.asking)
        read.asking = None

    def round(self) -> None:
        """What the collector does: note who has died, ask, and take what no one reads."""
        listed = self.primary()
        for number, door in self.doors.items():
            asked = self.primary()
            self.now += self.rng.choice([0.0, 0.001, 0.3])  # On its way to the door.
            if not door.paused and not door.cut_off:
                late = self.now + self.rng.choice([0.0, 0.001, 5.0, 60.0])
                self.answers.append((late, number, asked, door.running.oldest_s()))
        self.hear()
        over = self.pin.over_at(DOORS, listed, self.primary())
        for version in [each for each, applied in self.dead.items() if applied < over]:
            del self.dead[version]
            self.collected.add(version)

    def hear(self) -> None:
        for answer in [each for each in self.answers if each[0] <= self.now]:
            self.answers.remove(answer)
            self.pin.heard(*answer[1:])


def run(seeds: int) -> int:
    """Gives how much was collected."""
    collected = 0
    for seed in range(seeds):
        world = World(random.Random(seed))
        for _ in range(STEPS):
            world.step()
        collected += len(world.collected)
    return collected


def test_no_read_that_is_younger_than_the_pin_loses_what_it_reads() -> None:
    assert run(200) > 200, "something is taken while doors are asked"


def test_clocks_that_run_apart_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_pin, "RESTS_ON_ANY_CLOCK", 1.1)
    with pytest.raises(Violation):
        run(1000)


def test_an_answer_that_counted_from_its_arrival_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def heard(self: World) -> None:
        for answer in [each for each in self.answers if each[0] <= self.now]:
            self.answers.remove(answer)
            self.pin.heard(answer[1], self.primary(), answer[3])

    monkeypatch.setattr(World, "hear", heard)
    with pytest.raises(Violation):
        run(1000)


def test_a_read_that_counted_from_its_row_on_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RunningReads, "ask", lambda reads: Asking(reads._clock()))
    with pytest.raises(Violation):
        run(1000)


def test_a_door_that_is_silent_has_the_pin() -> None:
    pin = ReaderPin(PIN_S)
    pin.heard(DOORS[0], 1000.0, 0.0)
    assert pin.over_at(DOORS[:1], 1000.0, 1000.0) == 1000.0
    assert pin.over_at(DOORS, 1000.0, 1000.0) == 1000.0 - PIN_S
    pin.heard(DOORS[1], 990.0, 40.0)
    pin.heard(DOORS[2], 1000.0, 0.0)
    assert 945.0 < pin.over_at(DOORS, 1000.0, 1000.0) < 950.0
    # What it said last stays true; from then on it counts as one that reads.
    assert 945.0 < pin.over_at(DOORS, 1100.0, 1100.0) < 950.0
    assert pin.over_at(DOORS, 1400.0, 1400.0) == 1100.0


def test_a_read_runs_as_long_as_something_refers_to_what_it_reads() -> None:
    moment = 100.0
    running = RunningReads(lambda: moment)
    assert running.oldest_s() == 0.0
    asking = running.ask()
    moment = 107.0
    extent = ExtentRef(bytes(16), 1)
    running.hold(extent, asking)
    del asking
    other = ExtentRef(bytes(16), 1)
    running.hold(other)
    moment = 110.0
    assert running.oldest_s() == 10.0
    del extent
    assert running.oldest_s() == 3.0
    del other
    assert running.oldest_s() == 0.0
