"""Directed traces: the shortest stories in which a rule is all that stands between us and a lie.

Random schedules meet these once in ten or a hundred thousand runs, so they are told by hand. Each
function plays one; with the rule in place it ends well, with the planted bug it raises Violation.
"""

from __future__ import annotations

from tests.simulation.model.simulated_front_doors import DEPTH, INDEX_KEYS
from tests.simulation.model.stage import (
    HALF,
    HALF_KEY,
    KEY,
    OTHER_KEY,
    SHARD,
    A,
    B,
    C,
    D,
    Stage,
)
from tests.simulation.run import check_whole
from tests.simulation.traces_of_guards import TRACES_OF_GUARDS

from octad.chaos.check.linearizability import INFINITE, Done
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Action, Apply


def f3_late_swap() -> None:
    """F3: C challenges, restarts, promises A again; then its transaction lands after all."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    for node in (A, B):
        stage.process(node).paused_until = stage.world.time + 2.0
    stage.world.store.late, stage.world.store.late_s = 1.0, (5.0, 6.0)
    while stage.replica(C).swaps.pending is None:
        stage.run(0.01)
        assert stage.world.time < 5, "C challenges"
    stage.world.store.late = 0.0
    stage.world.crash(C)
    stage.world.boot(C)
    stage.run(4.0)
    assert stage.world.store.configurations[SHARD].primary == A, (
        "A is primary, and C promises it so"
    )
    stage.cut_from_store(A)
    for _ in range(30):
        stage.run(0.1)
        stage.check()


def f6_read_lease_outlives_its_source() -> None:
    """F6: A and B talk, C is cut off from A, takes over and removes B, which is not told."""
    stage = Stage()
    stage.written(A, "v1")
    stage.world.alive = {D}  # The one spare.
    stage.replica(A).on_timer = lambda now: []  # type: ignore[method-assign]  # It is slow, too.
    stage.cut_from_store(A, B)
    stage.cut((A, C), (B, C), (A, D), (B, D))
    stage.run(3.8)
    assert stage.world.store.configurations[SHARD].member(B) is None, "C has removed B"
    stage.written(C, "v2")
    stage.read(B)
    stage.check()


def f7_swap_that_adds_a_member() -> None:
    """F7: A is alone and promotes B; the swap lands, A does not hear of it, B takes over."""
    stage = Stage(nodes=2, replicas=1)
    stage.written(A, "v1")
    plan = Plan((A, B), A, DEPTH)
    stage.plan(plan)
    while (swap := stage.replica(A).swaps.pending) is None or len(swap.proposed.members) < 2:
        stage.world.run_until(stage.world.time + 0.0005)
        assert stage.world.time < 10, "A promotes B"
    stage.cut_from_store(A)
    stage.run(0.006)
    assert len(stage.world.store.configurations[SHARD].members) == 2, "the swap has landed"
    stage.cut((A, B))
    stage.run(2.5)
    assert stage.world.store.configurations[SHARD].primary == B, "B has taken over"
    stage.written(B, "v2")
    stage.read(A)
    stage.check()


def f8_challenge_after_a_hand_over() -> None:
    """F8: A hands over to B, which is not told; A never promised B anything."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.run(1.0)
    stage.cut_from_store(B)
    stage.world.cuts.add((A, B))
    plan = Plan((A, B, C), B, DEPTH)
    stage.plan(plan)
    while stage.world.store.configurations[SHARD].primary != B:
        stage.run(0.01)
        assert stage.world.time < 5, "A hands over"
    done = stage.write(C, "v2")
    for _ in range(120):
        stage.run(0.01)
        stage.world.clients.read_at(stage.process(B), stage.replica(B), KEY)
        if done.returned != INFINITE:
            break
    stage.read(B)
    stage.check()


def f13_acknowledgement_of_an_earlier_session() -> None:
    """F13: a learner catches up, is wiped of what it copied, and starts again further down."""
    stage = Stage(nodes=2, replicas=1)
    stage.written(A, "v1")
    plan = Plan((A, B), A, DEPTH)
    stage.plan(plan)
    while not stage.replica(A).primary.followers.sessions.numbers:
        stage.world.run_until(stage.world.time + 0.001)
    old = stage.replica(A).primary.followers.sessions.numbers[B]
    stage.world.crash(B)
    stage.world.boot(B)
    stage.cut((B, A))
    stage.world.cuts.discard((B, A))  # What B asks for arrives, nothing comes back.
    while stage.replica(A).primary.followers.sessions.numbers.get(B) == old:
        stage.run(0.01)
        assert stage.world.time < 10, "B joins again"
    end = stage.replica(A).log.end
    epoch = stage.world.store.configurations[SHARD].epoch
    stage.process(A).receive(B, ("ack", SHARD, epoch, end, old, True))
    stage.run(1.0)
    stage.check()


def f16_stale_tail_after_two_takeovers() -> None:
    """F16: C takes over with the shorter log and refuses a retry; B, with A's tail, is next."""
    stage = Stage(nodes=4)
    stage.written(A, "v1")
    stage.cut((A, C))
    stage.write(A, "v2")  # Its front door dies with A: no one retries it.
    stage.run(0.02)
    retried = stage.write(D, "v3", "v2")
    stage.run(0.05)
    assert stage.replica(B).log.end > stage.replica(C).log.end, "B has A's tail, C has not"
    stage.world.crash(A)
    stage.process(B).paused_until = stage.world.time + 2.2
    stage.world.alive.clear()  # No one is recruited.
    stage.run(2.9)
    assert stage.world.store.configurations[SHARD].primary == C, "C has taken over"
    stage.run(0.6)
    stage.world.crash(C)
    stage.run(4.0)
    assert retried.returned != INFINITE, "the retry is answered"
    stage.read(B)
    stage.check()


def commit_under_a_swap() -> None:
    """A is about to replace B by C from the next entry on; B's late ack completes that entry."""
    stage = Stage(nodes=3, replicas=2)
    stage.written(A, "v1")
    stage.world.cuts.add((B, A))  # B hears A and is not heard.
    late = stage.keep(A, "ack", deliver=True)
    stage.run(1.0)
    stage.world.store.slow_s = 0.5
    stage.write(A, "v2")
    stage.until(lambda: stage.replica(A).swaps.pending is not None, "A removes B")
    end, epoch = stage.replica(A).log.end, stage.configuration().epoch
    assert stage.replica(B).log.durable == end, "B has the write, durably"
    assert not late
    stage.process(A).receive(B, ("ack", SHARD, epoch, end, 0, True))
    stage.run(1.5)
    stage.check()


def promise_of_a_challenger() -> None:
    """B's challenge is under way when it hears A again; A must not serve by B's word."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.cut((A, B))
    stage.replica(A).on_timer = lambda now: []  # type: ignore[method-assign]  # It is slow, too.
    stage.world.store.late, stage.world.store.late_s = 1.0, (0.7, 0.71)
    stage.cut_from_store(A)
    stage.until(lambda: stage.replica(B).swaps.pending is not None, "B challenges")
    stage.heal((A, B))
    stage.until(lambda: stage.configuration().primary == B, "B has taken over")
    stage.run(0.02)
    done = stage.write(B, "v2")
    for _ in range(20):
        stage.run(0.02)
        stage.read(A)
        stage.check()
    assert done.returned != INFINITE, "B serves"


def refusal_that_comes_twice() -> None:
    """A request is refused; its first attempt arrives again, late, when it could be done."""
    stage = Stage()
    stage.written(A, "v1")
    asked = stage.keep(A, "ask", deliver=True)
    refused = stage.write(D, "v3", "v2")
    stage.run(0.1)
    assert refused.refused, "v2 does not stand"
    stage.written(A, "v2")
    stage.process(A).receive(*asked[0])
    stage.run(0.1)
    stage.read(A)
    stage.check()


def attempt_of_an_earlier_term() -> None:
    """An attempt lies before A, which is taken over meanwhile; another is refused by B."""
    stage = Stage()
    stage.written(A, "v1")
    asked = stage.keep(A, "ask", deliver=False)
    refused = stage.write(D, "v3", "v2")
    stage.run(0.1)
    stage.cut((A, B), (A, C))
    stage.until(lambda: refused.returned != INFINITE, "B has taken over, and answers")
    assert refused.refused, "v2 does not stand"
    stage.heal((A, B), (A, C))
    stage.plan(Plan((A, B, C), A, DEPTH))
    stage.until(lambda: stage.replica(A).serves(), "A is primary again")
    stage.written(A, "v2")
    process = stage.process(A)
    type(process).receive(process, *asked[0])
    stage.run(0.1)
    stage.read(A)
    stage.check()


def read_behind_the_commit_point() -> None:
    """B applies what A has committed and told it of; A's own index is still behind."""
    stage = _behind_the_commit_point()
    stage.read(A)
    stage.check()


def list_behind_the_commit_point() -> None:
    """The same, and A is asked for a list."""
    stage = _behind_the_commit_point()
    stage.world.clients.list_all(-1, stage.process(A), KEY)
    stage.run(0.01)
    stage.check()


def _behind_the_commit_point() -> Stage:
    stage = Stage(nodes=3, replicas=2)
    stage.written(A, "v1")
    stage.run(0.5)
    process, perform = stage.process(A), stage.process(A).perform
    held: list[Action] = []

    def perform_late(replica: ShardReplica, actions: list[Action]) -> None:
        held.extend(action for action in actions if isinstance(action, Apply))
        perform(replica, [action for action in actions if not isinstance(action, Apply)])

    process.perform = perform_late  # type: ignore[method-assign]
    stage.write(A, "v2")
    stage.run(0.02)
    assert held, "v2 is committed"
    stage.write(A, "other", key=OTHER_KEY)  # Its Prepare carries the commit point.
    stage.run(0.02)
    assert stage.read(B) is not None, "B shows v2"
    return stage


def read_over_two_epochs() -> None:
    """B reads what it has while it is no member, and is one again when it answers."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.run(0.5)
    stage.cut((A, B), (B, C))
    stage.cut_from_store(B)
    stage.replica(B).on_timer = lambda now: []  # type: ignore[method-assign]  # No challenge.
    stage.until(lambda: stage.configuration().member(B) is None, "A removes B")
    stage.written(A, "v2")
    began, replica = stage.world.time, stage.replica(B)
    ticket = replica.begin_read(INDEX_KEYS[KEY], stage.process(B).now())
    value = stage.process(B).disk.rows[KEY][1]
    stage.heal((A, B), (B, C))
    stage.world.store.cut.clear()
    stage.until(lambda: stage.is_full(B), "B is a full member again")
    stage.run(1.0)
    now = stage.process(B).now()
    assert replica.backup.has_read_lease(now)
    if ticket is not None and replica.read_holds(ticket, now):
        done = Done(began, stage.world.time, False, value)
        stage.world.clients.history[KEY].append(done)
    stage.check()


def copy_older_than_a_deletion() -> None:
    """C takes B's place, applies a deletion, and then gets a copy from before it."""
    stage = Stage(nodes=3, replicas=2)
    stage.written(A, "v1")
    copied = stage.keep(C, "copied", deliver=False)
    stage.world.crash(B)
    stage.until(lambda: bool(copied), "C copies", 0.001)
    first = copied[0]
    stage.until(lambda: len({message[3] for _, message in copied}) == 1, "the first range")
    stage.written(A, None)
    stage.run(0.5)
    receive = type(stage.process(C)).receive
    receive(stage.process(C), *first)
    stage.process(C).receive = receive.__get__(stage.process(C))  # type: ignore[method-assign]
    stage.until(lambda: stage.is_full(C), "C is whole")
    stage.run(1.0)
    assert stage.read(C) is not None, "C may read"
    stage.check()


def tail_kept_under_a_new_start() -> None:
    """B holds two entries of A that C never had, and one of them is refused by C; B comes back."""
    stage = Stage(nodes=4)
    stage.written(A, "v1")
    stage.cut((A, C))
    stage.write(A, "v2")  # Its front door dies with A: no one retries it.
    stage.run(0.02)
    retried = stage.write(D, "v3", "v2")
    stage.run(0.05)
    stage.world.crash(A)
    stage.cut((B, C), (B, D))
    stage.cut_from_store(B)
    stage.replica(B).on_timer = lambda now: []  # type: ignore[method-assign]  # No challenge.
    stage.world.alive.clear()
    stage.until(lambda: stage.configuration().member(B) is None, "C is alone")
    stage.until(lambda: retried.returned != INFINITE, "the retry is answered")
    assert retried.refused, "C never had v2"
    stage.heal((B, C), (B, D))
    stage.world.store.cut.clear()
    stage.world.alive = {B}
    stage.until(lambda: stage.is_full(B), "B is back")
    del stage.replica(B).on_timer
    stage.world.crash(C)
    stage.world.alive.clear()
    stage.until(lambda: stage.replica(B).serves(), "B has taken over")
    stage.run(0.5)
    stage.read(B)
    stage.check()


def promise_for_the_other_half() -> None:
    """B takes one half over; it and C go on promising A for the other one."""
    stage = Stage(nodes=3)
    stage.written(A, "v1", HALF_KEY)
    stage.plan(Plan((A, B, C), A, DEPTH + 1))
    stage.until(lambda: HALF in stage.process(B).replicas, "the shard is split")
    stage.run(1.0)
    assert stage.read(A, HALF_KEY, HALF) is not None, "A serves both halves"
    stage.world.alive.clear()  # No one is recruited.
    stage.cut_from_store(A)
    stage.cut((A, B), (A, C))
    for node, shard in ((A, SHARD), (A, HALF), (B, SHARD), (C, SHARD), (C, HALF)):
        replica = stage.process(node).replicas[shard]
        replica.on_timer = lambda now: []  # type: ignore[method-assign]  # Slow: only B acts.
    stage.until(lambda: stage.configuration(HALF).primary == B, "B takes over one half")
    stage.heal((A, B), (A, C))
    stage.run(0.6)
    assert stage.replica(A).has_lease(stage.process(A).now()), "A leads the other half"
    stage.written(B, "v2", HALF_KEY)
    stage.read(A, HALF_KEY, HALF)
    stage.check()


def split_that_a_member_missed() -> None:
    """B was away when the shard was split, and begins both halves with what it had."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.written(A, "v1'", HALF_KEY)
    stage.write(A, "v2", key=HALF_KEY)
    stage.run(0.01)
    assert stage.replica(B).log.commit < stage.replica(A).log.commit, "B knows that it is committed"
    stage.world.cuts |= {(A, B), (B, C), (C, B)}
    stage.plan(Plan((A, B, C), A, DEPTH + 1))
    stage.world.store.lagging = 1.0
    stage.until(lambda: HALF in stage.world.store.configurations, "the shard is split")
    stage.world.crash(B)
    stage.world.boot(B)
    stage.world.store.lagging = 0.0
    stage.world.cuts.clear()
    stage.run(1.0)
    for node in (A, C):
        stage.world.crash(node)
    stage.until(lambda: stage.process(B).replicas[HALF].serves(), "B leads the second half")
    stage.run(1.0)
    assert stage.read(B, HALF_KEY, HALF) is not None
    stage.check()


def f5_beats_of_another_epoch() -> None:
    """B was removed and is a recruit now, and knows of neither; its beats agree but for epochs."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.run(0.5)
    stage.cut((A, B), (B, C))
    stage.cut_from_store(B)
    stage.replica(B).on_timer = lambda now: []  # type: ignore[method-assign]  # No challenge.
    stage.until(lambda: stage.configuration().member(B) is None, "A removes B")
    stage.written(A, "v2")
    stage.heal((A, B), (B, C))
    stage.until(lambda: stage.configuration().member(B) is not None, "A recruits B")
    for _ in range(50):
        stage.run(0.02)
        stage.read(B)
        stage.check()


def split_after_a_recovery_by_force() -> None:
    """A's older copy takes the place of B's and C's, which come back empty; later B splits."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.run(0.5)
    stage.cut((A, B), (A, C))
    stage.cut_from_store(A)
    stage.until(lambda: stage.configuration().member(A) is None, "A is removed")
    stage.written(B, "v2")
    for node in (B, C):
        stage.world.crash(node)
        stage.world.wipe(node)
    stage.heal((A, B), (A, C))
    stage.world.store.cut.clear()
    stage.world.operator.recover(SHARD)
    stage.until(lambda: stage.replica(A).serves(), "A is in charge")
    for node in (B, C):
        stage.world.boot(node)
    stage.world.alive = {A, B, C}
    stage.until(lambda: stage.is_full(B) and stage.is_full(C), "B and C are full members again")
    stage.plan(Plan((A, B, C), B, DEPTH))
    stage.until(lambda: stage.configuration().primary == B, "A hands over")
    stage.plan(Plan((A, B, C), B, DEPTH + 1))
    stage.until(lambda: HALF in stage.world.store.configurations, "the shard is split")
    stage.run(3.0)
    check_whole(stage.world)
    stage.check()


TRACES = {
    "a half forgets in which epoch it acted": split_after_a_recovery_by_force,
    **TRACES_OF_GUARDS,
    "swaps are not fenced": f3_late_swap,
    "the read lease is not derived": f6_read_lease_outlives_its_source,
    "beats without epochs": f5_beats_of_another_epoch,
    "no lease from proposed members": f7_swap_that_adds_a_member,
    "no wait after a new configuration": f8_challenge_after_a_hand_over,
    "a learner without sessions": f13_acknowledgement_of_an_earlier_session,
    "no barrier": f16_stale_tail_after_two_takeovers,
    "commit under a swap": commit_under_a_swap,
    "promises while challenging": promise_of_a_challenger,
    "refusals are forgotten": refusal_that_comes_twice,
    "an attempt outlives its primary's term": attempt_of_an_earlier_term,
    "a primary reads behind its commit point": read_behind_the_commit_point,
    "a read is judged at its end alone, at any epoch": read_over_two_epochs,
    "a list behind the commit point": list_behind_the_commit_point,
    "promises are carried over a split": promise_for_the_other_half,
    "a late split forgets the tail": split_that_a_member_missed,
    "a copy without marks of deletions": copy_older_than_a_deletion,
    "a snapshot keeps the tail": tail_kept_under_a_new_start,
}
