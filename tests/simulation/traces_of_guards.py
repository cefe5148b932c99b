"""Directed traces of guards and refusals, with two front doors and up to three attempts."""

from __future__ import annotations

from tests.simulation.model.stage import A, B, C, D, Stage

from octad.chaos.check.linearizability import INFINITE


def attempt_that_waits_elsewhere() -> None:
    """F1: attempt 1 waits at D; attempt 2 is refused; A dies, and D can send at last."""
    stage = Stage()
    stage.written(A, "v1")
    stage.cut((D, A))
    created = stage.write(D, "v2", None)
    stage.run(0.1)
    stage.try_again(B)
    stage.run(0.1)
    assert created.refused, "v1 stands"
    _the_key_is_free_under_another_primary(stage)


def attempt_that_waits_behind_a_remembered_refusal() -> None:
    """F2: attempt 1 is refused and not heard, 2 waits at D, 3 is told of it."""
    stage = Stage()
    stage.written(A, "v1")
    asked = stage.keep(A, "ask", deliver=False)
    created = stage.write(B, "v2", None)
    stage.run(0.05)
    stage.cut((D, A))
    stage.try_again(D)
    stage.deliver(A, asked[0])
    stage.run(0.05)
    assert created.returned == INFINITE, "the client hears of its newest attempt alone"
    stage.try_again(C)
    stage.run(0.05)
    stage.deliver(A, asked[-1])
    stage.run(0.1)
    assert created.refused, "A remembers it"
    _the_key_is_free_under_another_primary(stage)


def _the_key_is_free_under_another_primary(stage: Stage) -> None:
    """And what waits at D is sent there."""
    stage.written(A, None)
    stage.world.crash(A)
    stage.until(
        lambda: any(stage.replica(node).serves() for node in (B, C)), "another one has taken over"
    )
    stage.run(1.5)
    for node in (B, C):
        stage.read(node)
    stage.check()


def refused_while_an_older_try_is_ordered() -> None:
    """D's second try waits for what it saw; its first one comes late, and sees something else."""
    stage = Stage()
    stage.run(0.5)
    asked = stage.keep(A, "ask", deliver=False)
    created = stage.write(D, "v2", None)
    stage.until(lambda: len(asked) == 2, "D tries again")
    acks = stage.keep(A, "ack", deliver=False)
    stage.write(A, "v1")
    stage.run(0.01)
    stage.deliver(A, asked[1])
    stage.write(A, None)
    stage.run(0.01)
    stage.deliver(A, asked[0])
    stage.run(0.01)
    assert created.returned == INFINITE, "nothing is committed"
    for ack in acks:
        stage.deliver(A, ack)
    stage.run(0.1)
    stage.read(A)
    stage.check()


TRACES_OF_GUARDS = {
    "a later attempt's refusal is no entry": attempt_that_waits_elsewhere,
    "a remembered refusal is no entry": attempt_that_waits_behind_a_remembered_refusal,
    "refused though another attempt is ordered": refused_while_an_older_try_is_ordered,
}
