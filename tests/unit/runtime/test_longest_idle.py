"""Who goes when there is no room, against an oracle that sorts everyone each time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from octad.client.runtime.longest_idle import IDLE_S_MIN, LOOK_AGAIN_S, LongestIdle


@dataclass(eq=False)
class Connection:
    """Idle since then, or busy."""

    idle_since: float | None


class Counted(list[Connection]):
    """How often all connections were looked at."""

    looks = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__iter__()


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=200),
    st.lists(st.sampled_from(["take", "busy", "idle", "new"]), max_size=100),
    st.randoms(),
)
def test_it_is_always_the_one_that_has_been_idle_for_longest(
    begin: list[float | None], steps: list[str], random: object
) -> None:
    now = 100.0
    connections = [Connection(since) for since in begin]
    longest: LongestIdle[Connection] = LongestIdle()
    for step in steps:
        now += 1.0
        if step == "new":
            connections.append(Connection(now))
        elif step != "take" and connections:
            some = connections[random.randrange(len(connections))]  # type: ignore[attr-defined]
            some.idle_since = None if step == "busy" else now
        elif step == "take":
            taken = longest.take(connections, now)
            idle = [
                each.idle_since
                for each in connections
                if each.idle_since is not None and now - each.idle_since >= IDLE_S_MIN
            ]
            assert (taken.idle_since if taken else None) == min(idle, default=None)
            if taken is not None:
                taken.idle_since = None  # Closed.
                connections.remove(taken)


def test_a_new_connection_has_time_to_say_what_it_wants() -> None:
    longest: LongestIdle[Connection] = LongestIdle()
    connections = [Connection(10.0)]
    assert longest.take(connections, 10.0 + IDLE_S_MIN / 2) is None
    assert longest.take(connections, 10.0 + IDLE_S_MIN) is connections[0]


def test_a_thousand_newcomers_do_not_cost_a_thousand_looks() -> None:
    longest: LongestIdle[Connection] = LongestIdle()
    connections = Counted(Connection(float(number)) for number in range(1000))
    for _ in range(1000):
        taken = longest.take(connections, 5000.0)
        assert taken is not None
        taken.idle_since = None
    assert connections.looks <= 20
    for number in range(1000):
        assert longest.take(connections, 5000.0 + number * LOOK_AGAIN_S / 1000) is None
    assert connections.looks <= 25
