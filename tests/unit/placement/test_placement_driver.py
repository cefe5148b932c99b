"""The leader's plans, carried out by simulated primaries: they end where they were to end."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.placement.placement_cluster import (
    KEYS,
    PLACEMENT,
    POOL,
    Faults,
    PlacementCluster,
    incarnation,
)

from octad.coordinator.placement.placement_commit import resumed, reverted, stopped
from octad.coordinator.placement.placement_driver import (
    GARBAGE_S,
    REPAIR_AFTER_S,
    STALL_S,
    PlacementDriver,
)
from octad.coordinator.placement.placement_goals import move_wish
from octad.coordinator.placement.placement_requests import PlanRefused
from octad.coordinator.schema.placement_records import (
    PlacementOperation,
    PlanProgress,
    Replica,
    ShardPlan,
    encode_record,
)
from octad.coordinator.store.interface import Delete, Put
from octad.sharding.ids import NodeId, Seq, shard_id
from octad.sharding.map.shard_map import FormerMember, Member, encode_configuration

UNRULY = Faults(refuses=0.05, lags=0.4, leader_dies=0.1, stale_view=0.2)


def five(*, later: int = 0, seed: int = 0, faults: Faults | None = None) -> PlacementCluster:
    """Five nodes without zones, the last `later` of which joined after the map was made."""
    nodes = dict.fromkeys(range(1, 6), "")
    return PlacementCluster(nodes, depth=5, seed=seed, later=range(6 - later, 6), faults=faults)


@pytest.mark.parametrize("replicas", [2, 3])
def test_adding_a_node_moves_as_much_as_was_promised_and_no_more(replicas: int) -> None:
    cluster = PlacementCluster(dict.fromkeys(range(1, 6), ""), replicas=replicas, later=[5])
    promised = cluster.ask("add", "n5")
    assert promised.moves == 32 * replicas // 5
    cluster.run()
    assert cluster.moves.total() == promised.moves
    assert set(cluster.moves) == {5}
    assert max(cluster.held().values()) - min(cluster.held().values()) <= 1
    assert max(cluster.led().values()) - min(cluster.led().values()) <= 1


def test_a_drained_node_is_named_by_no_configuration_in_the_end() -> None:
    cluster = five()
    promised = cluster.ask("drain", "n2")
    assert promised.moves == cluster.held()[2]
    cluster.run()
    assert cluster.held()[2] == 0
    assert cluster.moves.total() == promised.moves


def test_a_heavier_node_gets_more() -> None:
    cluster = five()
    cluster.ask("add", "n5", weight=2.0)
    cluster.run()
    assert cluster.held() == {1: 16, 2: 16, 3: 16, 4: 16, 5: 32}


def test_zones_are_kept_at_every_step() -> None:
    nodes = {number: f"z{number % 3}" for number in range(1, 10)}
    cluster = PlacementCluster(nodes, depth=5, later=[8, 9], faults=UNRULY)
    cluster.zones_min = 3
    cluster.ask("add", "n8", "n9")
    cluster.run()
    cluster.ask("drain", "n1", "n2")
    cluster.run()


def test_a_zone_that_is_given_to_a_node_counts_like_its_own() -> None:
    cluster = PlacementCluster({1: "a", 2: "a", 3: "b", 4: "b", 5: "", 6: ""}, replicas=2)
    cluster.ask("add", "n5", "n6", zone="c")
    cluster.run()
    view = cluster.view()
    for configuration in view.cluster.configurations.values():
        assert len({view.zone_of(member.node) for member in configuration.members}) == 2


@pytest.mark.parametrize("seed", range(12))
def test_primaries_that_refuse_and_lag_and_leaders_that_die_change_nothing_in_the_end(
    seed: int,
) -> None:
    cluster = five(later=1, seed=seed, faults=UNRULY)
    promised = cluster.ask("add", "n5")
    cluster.run()
    rows = {
        s: {m.node for m in configuration.members}
        for s, configuration in cluster.view().cluster.configurations.items()
    }
    for shard, target in promised.targets.items():
        assert rows[shard] == set(target.new)
    assert cluster.moves.total() == promised.moves
    assert cluster.elections > 1


def test_not_more_copies_are_under_way_than_allowed_in_all_and_at_a_node() -> None:
    cluster = five(later=2)
    cluster.ask("add", "n4", "n5", moves_max=3, moves_per_node_max=2)
    cluster.run()
    assert cluster.copying_max == 3
    one = five(later=1)
    one.ask("add", "n5", moves_max=8, moves_per_node_max=1)
    one.run()
    assert one.copying_max == 1, "they all arrive at one node"


def test_a_shard_that_only_waits_for_old_leases_does_not_hold_up_the_next_copy() -> None:
    def ticks(grace: int, **throttle: int) -> tuple[PlacementCluster, int]:
        cluster = five(later=1)
        cluster.grace_ticks = grace
        cluster.ask("add", "n5", **throttle)
        return cluster, cluster.run()

    _, at_once = ticks(0, moves_max=2, moves_per_node_max=2)
    waiting, with_waits = ticks(8, moves_max=2, moves_per_node_max=2)
    assert with_waits <= at_once + 8 + 2
    assert waiting.copying_max == 2
    assert waiting.plans_max > 2
    flooded, _ = ticks(40, moves_max=2, moves_per_node_max=2)
    assert flooded.plans_max == 8, "and only so many wait"


def test_primaries_are_balanced_without_moving_a_byte() -> None:
    cluster = five()
    for number in range(32):
        configuration = cluster.configuration(number)
        first = min(member.node for member in configuration.members)
        cluster._write_configuration(shard_id(POOL, number), configuration, primary=first)
    assert max(cluster.led().values()) > 8
    promised = cluster.ask("rebalance")
    assert (promised.moves, promised.primaries > 0) == (0, True)
    cluster.run()
    assert cluster.moves.total() == 0
    assert max(cluster.led().values()) <= 7


def test_stop_ends_moves_and_resume_goes_on_to_what_was_promised() -> None:
    cluster = five(later=1)
    promised = cluster.ask("add", "n5")
    while cluster.moves.total() < 5 or not cluster.copying():
        cluster.tick()
    stopped_at = cluster.moves.total()
    cluster.tell(stopped(KEYS, cluster.view()))
    cluster.lead()
    assert not cluster.copying(), "what is still on its way is given up"
    for _ in range(20):
        cluster.tick()
    assert cluster.is_settled(), "nothing is left half-way"
    assert cluster.moves.total() == stopped_at < promised.moves
    cluster.tell(resumed(KEYS, cluster.view()))
    cluster.run()
    assert cluster.moves.total() == promised.moves


def test_a_plan_decided_before_a_stop_is_not_written_after_it() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5")
    late = cluster.driver.decide(cluster.view(), cluster.leadership, 1.0)
    assert late
    cluster.tell(stopped(KEYS, cluster.view()))
    assert not any(cluster.transact(t.compares, t.operations).succeeded for t in late)


@pytest.mark.parametrize("seed", range(4))
def test_revert_leads_back_to_the_configurations_and_settings_of_before(seed: int) -> None:
    cluster = five(seed=seed, faults=UNRULY)
    before = {
        s: {m.node for m in configuration.members}
        for s, configuration in cluster.view().cluster.configurations.items()
    }
    cluster.ask("drain", "n2")
    while cluster.moves.total() < 6:
        cluster.tick()
    arrived = cluster.moves.total()
    cluster.tell(reverted(KEYS, cluster.view()))
    cluster.run()
    after = {
        s: {m.node for m in configuration.members}
        for s, configuration in cluster.view().cluster.configurations.items()
    }
    assert after == before
    assert cluster.moves.total() <= 2 * (arrived + 8), "only what had arrived goes back"
    assert not cluster.view().settings_of(NodeId(2)).draining
    with pytest.raises(PlanRefused, match="was reverted; plan anew"):
        reverted(KEYS, cluster.view())


def test_a_revert_gives_up_what_is_still_on_its_way() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5")
    while not cluster.copying():
        cluster.tick()
    cluster.tell(reverted(KEYS, cluster.view()))
    cluster.lead()
    assert not cluster.copying()
    cluster.run()
    assert cluster.moves.total() == 0
    assert cluster.held()[5] == 0


def test_of_two_that_join_the_one_goes_first_whose_zone_is_being_left() -> None:
    cluster = PlacementCluster({1: "a", 2: "b", 3: "c", 4: "a", 5: "b"}, depth=2)
    members = tuple(Member(NodeId(n), incarnation(n)) for n in (1, 2, 3))
    configuration = msgspec.structs.replace(
        cluster.configuration(0), primary=NodeId(3), members=members
    )
    wish = move_wish(cluster.view(), configuration, (NodeId(3), NodeId(5), NodeId(4)), 3)
    assert isinstance(wish, ShardPlan)
    assert wish.add is not None
    assert wish.remove is not None
    assert (wish.add.node, wish.remove.node) in ((4, 1), (5, 2))


def test_a_split_doubles_the_shards_and_moves_nothing() -> None:
    cluster = five(faults=UNRULY)
    promised = cluster.ask("split")
    assert (promised.splits, promised.moves) == (32, 0)
    assert promised.answer(dry_run=True, operation=None).moves_bytes == 0
    cluster.tick()
    with pytest.raises(PlanRefused, match="is being split"):
        cluster.ask("rebalance")
    cluster.run()
    view = cluster.view()
    assert view.cluster.pools[POOL].depth == 6
    assert len(view.cluster.configurations) == 64
    assert cluster.moves.total() == 0
    with pytest.raises(PlanRefused, match="stay split"):
        reverted(KEYS, view)
    cluster.ask("split")
    cluster.run()
    assert len(cluster.view().cluster.configurations) == 128


def test_a_pool_of_two_copies_lives_beside_one_of_three() -> None:
    cluster = five(later=1)
    made = cluster.ask("create-pool", replicas=2, depth=4)
    cluster.make_map()
    assert made.new_pool is not None
    cluster.ask("drain", "n1")
    cluster.run()
    counts = {
        shard >> 32: len(configuration.members)
        for shard, configuration in cluster.view().cluster.configurations.items()
    }
    assert counts == {0: 3, 1: 2}
    assert cluster.held()[1] == 0


def wait_for_primaries(cluster: PlacementCluster) -> None:
    """Who could recruit by itself has had the time."""
    cluster.lead()
    cluster.now_s += REPAIR_AFTER_S
    cluster.lead()


def test_a_lost_copy_is_made_again_without_a_command_the_most_degraded_first() -> None:
    cluster = five()
    cluster.kill(1)
    worst = next(n for n in range(32) if cluster.configuration(n).member(NodeId(2)) and
                 len(cluster.configuration(n).members) == 2)  # fmt: skip
    configuration = cluster.configuration(worst)
    lone = tuple(m for m in configuration.members if m.node != 2)
    cluster._write_configuration(
        shard_id(POOL, worst), configuration, members=lone, primary=lone[0].node
    )
    wait_for_primaries(cluster)
    assert shard_id(POOL, worst) in cluster.view().plans
    cluster.run()
    assert cluster.held()[1] == 0
    assert cluster.held().total() == 96


def test_a_primary_has_time_to_recruit_by_itself_before_a_repair_is_planned() -> None:
    cluster = five()
    cluster.kill(1)
    shard = next(
        s
        for s, configuration in cluster.view().cluster.configurations.items()
        if len(configuration.members) == 2
    )
    cluster.lead()
    cluster.now_s += REPAIR_AFTER_S - 1
    cluster.lead()
    assert not cluster.view().plans
    configuration = cluster.view().cluster.configurations[shard]
    spare = next(NodeId(n) for n in (2, 3, 4, 5) if configuration.member(NodeId(n)) is None)
    recruit = Member(spare, incarnation(spare), Seq(7), configuration.epoch)
    cluster._write_configuration(shard, configuration, members=(*configuration.members, recruit))
    cluster.now_s += 1
    cluster.lead()
    plans = cluster.view().plans
    assert plans, "the others stayed short"
    assert shard not in plans
    configuration = cluster.view().cluster.configurations[shard]
    cluster._write_configuration(shard, configuration, members=configuration.members[:-1])
    cluster.lead()
    assert shard not in cluster.view().plans, "it is short anew"


def test_who_still_has_the_data_is_asked_to_take_it_back() -> None:
    cluster = five()
    configuration = cluster.configuration(3)
    gone = configuration.members[-1]
    former = (FormerMember(gone.node, gone.incarnation, Seq(7)),)
    cluster._write_configuration(
        shard_id(POOL, 3), configuration, members=configuration.members[:-1], last_full=former
    )
    cluster.run()
    assert cluster.configuration(3).member(gone.node) is not None


def test_a_move_waits_for_a_node_that_went_away_and_says_so() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5")
    cluster.tick()
    cluster.kill(5)
    for _ in range(30):
        cluster.tick()
    assert any("n5 is not live; start it, or plan anew" in p for p in cluster.driver.problems)
    assert not cluster.view().plans
    cluster.start(5)
    cluster.run()
    assert max(cluster.held().values()) - min(cluster.held().values()) <= 1


def test_no_spare_is_said_and_changes_nothing() -> None:
    cluster = PlacementCluster({1: "", 2: "", 3: ""}, depth=2)
    cluster.kill(3)
    wait_for_primaries(cluster)
    assert not cluster.view().plans
    assert any("no other node can take it; add a node" in p for p in cluster.driver.problems)


def test_a_refusal_is_told_and_the_same_is_asked_again_only_later() -> None:
    cluster = five(later=1, faults=Faults(refuses=1.0))
    cluster.ask("add", "n5", moves_max=1)
    asked = set()
    for _ in range(4):
        cluster.tick()
        asked |= set(cluster.view().plans)
    cluster.lead()
    assert len(asked) >= 2, "another shard is tried meanwhile"
    said = []
    for _ in range(3):
        cluster.tick()
        said += cluster.driver.problems
    assert any("refuses: its disk is full" in problem for problem in said)


def test_a_plan_without_a_sign_of_life_gives_its_place_to_another() -> None:
    cluster = five(later=1, faults=Faults(lags=1.0))
    cluster.ask("add", "n5", moves_max=1)
    cluster.tick()
    (first,) = cluster.view().plans
    cluster.tick()
    cluster.now_s += STALL_S
    cluster.tick()
    cluster.tick()
    assert first not in cluster.view().plans
    assert len(cluster.view().plans) == 1


def test_progress_about_an_earlier_plan_is_not_believed() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5", moves_max=1)
    cluster.tick()
    ((shard, stored),) = cluster.view().plans.items()
    late = PlanProgress(stored.revision - 1, NodeId(1), "refused", reason="of another plan")
    cluster.put(PLACEMENT.plan_progress(shard), encode_record(late))
    cluster.lead()
    assert shard in cluster.view().plans


def test_targets_that_did_not_arrive_yet_do_not_end_an_operation() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5")
    operation = cluster.view().operation
    assert operation is not None
    key = PLACEMENT.target(operation.record.id, operation.record.chunks[0])
    chunk = cluster.entry(key).value
    cluster.transact([], [Delete(key)])
    assert cluster.driver.decide(cluster.view(), cluster.leadership, 1.0) == []
    cluster.put(key, chunk)
    assert cluster.driver.decide(cluster.view(), cluster.leadership, 1.0)


def test_targets_of_operations_that_are_over_are_cleared_away_after_a_while() -> None:
    cluster = five(later=1)
    cluster.put(PLACEMENT.target("never-begun", "0/0"), b'{"shards":{}}')
    cluster.ask("add", "n5")
    cluster.run()
    cluster.ask("drain", "n5")
    cluster.lead()
    assert len(cluster.view().other_targets) == 2
    cluster.now_s += GARBAGE_S
    cluster.lead()
    assert cluster.view().other_targets == ()
    cluster.run()


def test_fields_of_a_newer_octad_are_kept_when_a_record_is_changed() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5")
    entry = cluster.entry(PLACEMENT.operation)
    cluster.put(entry.key, entry.value[:-1] + b',"newer":[1]}')
    cluster.tell(stopped(KEYS, cluster.view()))
    value = cluster.entry(PLACEMENT.operation).value
    assert msgspec.json.decode(value)["newer"] == [1]
    assert msgspec.json.decode(value, type=PlacementOperation).state == "stopped"


def test_every_write_compares_the_fencing_token() -> None:
    cluster = five(later=1)
    cluster.ask("add", "n5")
    for _ in range(10):
        for transaction in cluster.driver.decide(cluster.view(), cluster.leadership, cluster.now_s):
            assert cluster.leadership in transaction.compares
        cluster.tick()


def test_a_new_leader_takes_a_hopeless_plan_away() -> None:
    cluster = five()
    shard = shard_id(POOL, 0)
    configuration = cluster.configuration(0)
    outside = next(n for n in range(1, 6) if configuration.member(NodeId(n)) is None)
    wrong = Replica(NodeId(outside), "another-disk")
    plan = ShardPlan(
        "move",
        3,
        add=wrong,
        remove=Replica(configuration.primary, incarnation(configuration.primary)),
    )
    cluster.transact([], [Put(PLACEMENT.plan(shard), encode_record(plan))])
    cluster.run()
    assert encode_configuration(cluster.configuration(0)) == encode_configuration(configuration)
    assert PlacementDriver(KEYS).decide(cluster.view(), cluster.leadership, 0.0) == []
