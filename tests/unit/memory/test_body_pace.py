"""How long a body may be in the way of others, or not come at all."""

from __future__ import annotations

from octad.sharding.limits import BODY_STEP_S
from octad.storage_node.memory.body_pace import BODY_STALLED_S_MAX, BODY_WANTED_S_MAX, BodyPace


def steps_until_over(count: int, *, in_the_way: bool) -> int:
    pace = BodyPace()
    for step in range(1, 1000):
        if pace.is_over(count, whole=False, in_the_way=in_the_way):
            return step
    return 0


def test_a_body_of_which_nothing_comes_is_given_up_after_a_while() -> None:
    assert steps_until_over(0, in_the_way=False) == BODY_STALLED_S_MAX / BODY_STEP_S


def test_a_body_that_is_in_the_way_of_others_is_given_up_sooner_even_if_a_little_comes() -> None:
    for count in (0, 1):
        assert steps_until_over(count, in_the_way=True) == BODY_WANTED_S_MAX / BODY_STEP_S


def test_a_slow_body_that_is_in_nobodys_way_has_all_the_time_it_needs() -> None:
    assert steps_until_over(1, in_the_way=False) == 0


def test_a_whole_step_starts_the_count_anew() -> None:
    pace = BodyPace()
    for _ in range(100):
        assert not pace.is_over(0, whole=False, in_the_way=True)
        assert not pace.is_over(9, whole=True, in_the_way=True)
