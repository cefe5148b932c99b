"""What the replication promises, under everything that goes wrong at once, from a seed.

To replay a failure: python -m tests.simulation --replay SEED
"""

from __future__ import annotations

import pytest
from tests.simulation.linearizability import ANY, INFINITE, Done, is_linearizable
from tests.simulation.run import run_seed, summary


@pytest.mark.parametrize("seed", range(60), ids="seed-{}".format)
def test_what_was_acknowledged_or_read_is_never_undone_and_the_cluster_heals(seed: int) -> None:
    run_seed(seed)


def test_a_seed_gives_the_same_story_twice() -> None:
    first, second = run_seed(4), run_seed(4)
    assert first.story == second.story
    assert summary(first) == summary(second)


def test_the_runs_get_somewhere() -> None:
    runs = [summary(run_seed(seed)) for seed in range(10)]
    assert sum(run.answered for run in runs) > 2000
    assert sum(run.refused for run in runs) > 200
    assert sum(run.local_reads for run in runs) > 500
    assert max(run.epochs for run in runs) > 20


def write(called: float, returned: float, value: str, if_match: str | None = ANY) -> Done:
    return Done(called, returned, True, value, if_match)


def read(called: float, returned: float, value: str | None) -> Done:
    return Done(called, returned, False, value)


def test_a_read_of_the_past_is_not_linearizable() -> None:
    history = [write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a")]
    assert not is_linearizable(history)


def test_an_unknown_write_may_take_effect_late_or_never_but_not_be_undone() -> None:
    unknown = write(0, INFINITE, "a")
    assert is_linearizable([unknown, read(4, 5, None), read(6, 7, "a")])
    assert is_linearizable([unknown, read(4, 5, None)])
    assert not is_linearizable([unknown, read(4, 5, "a"), read(6, 7, None)])


def test_a_refusal_says_that_the_condition_was_false() -> None:
    refused = write(2, 3, "b", "a")
    refused.refused = True
    assert not is_linearizable([write(0, 1, "a"), refused])
    assert is_linearizable([write(0, 1, "c"), refused])
