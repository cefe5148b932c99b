"""Every scheme of the comparison is what its paper says it is."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals import anchor as anchor_module
from octad.sharding.study.rivals.all_schemes import all_schemes, chosen_schemes
from octad.sharding.study.rivals.anchor import Anchor, TooManyNodes
from octad.sharding.study.rivals.maglev import populated
from octad.sharding.study.rivals.mixing import Hashes, mixed, mixed_all, unit, unit_all
from octad.sharding.study.rivals.numbered import jump, jump_all
from octad.sharding.study.rivals.ring import EPSILON, BoundedRing, MultiProbe, Ring
from octad.sharding.study.rivals.scheme import Scheme, kept_in_place
from octad.sharding.study.rivals.weighted import Straw2

HASHES: Hashes = mixed_all(np.arange(4_000, dtype=np.uint64), 12345)
SCHEMES = pytest.mark.parametrize("scheme", chosen_schemes(""), ids=lambda scheme: scheme.name)


def cluster(count: int, zones: int = 0, weights: tuple[float, ...] = (1.0,)) -> list[PlacementNode]:
    return [
        PlacementNode(NodeId(i), weights[i % len(weights)], f"z{i % zones}" if zones else "")
        for i in range(1, count + 1)
    ]


def loads(scheme: Scheme, nodes: list[PlacementNode], hashes: Hashes = HASHES) -> Counter[int]:
    return Counter(scheme.place(nodes, 3).holders_of_all(hashes).ravel().tolist())


@given(hash_=st.integers(0, 2**64 - 1), salt=st.integers(0, 2**40))
def test_a_hash_of_a_hash_is_the_same_in_python_and_in_numpy(hash_: int, salt: int) -> None:
    array = np.array([hash_], dtype=np.uint64)
    assert mixed_all(array, salt).tolist() == [mixed(hash_, salt)]
    assert mixed_all(array, np.array([salt], dtype=np.uint64)).tolist() == [mixed(hash_, salt)]
    assert unit_all(array).tolist() == [unit(hash_)]
    assert 0 < unit(hash_) <= 1


@SCHEMES
@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 0.5)], ids=["equal", "weighted"])
@pytest.mark.parametrize("zones", [0, 4])
def test_one_key_and_many_keys_have_the_same_distinct_holders_before_and_after_a_change(
    scheme: Scheme, weights: tuple[float, ...], zones: int
) -> None:
    nodes = cluster(9, zones, weights)
    grown, drained = cluster(11, zones, weights), [replace(n, draining=n.id == 4) for n in nodes]
    first = scheme.place(nodes, 3)
    for placement, ids in (
        (first, range(1, 10)),
        (first.changed(grown), range(1, 12)),
        (first.changed(drained), [1, 2, 3, 5, 6, 7, 8, 9]),
        (first.changed(drained).changed(nodes), range(1, 10)),
    ):
        rows = placement.holders_of_all(HASHES[:300]).tolist()
        assert [list(placement.holders(int(h))) for h in HASHES[:300]] == rows
        assert all(len(set(row)) == 3 and set(row) <= set(ids) for row in rows)
        assert placement.state_bytes() > 0


@SCHEMES
def test_a_scheme_that_says_so_keeps_zones_and_honours_weights(scheme: Scheme) -> None:
    if scheme.zones:
        for row in scheme.place(cluster(12, 4), 3).holders_of_all(HASHES[:500]).tolist():
            assert len({node % 4 for node in row}) == 3
    if scheme.weights:
        found = loads(scheme, cluster(20, 0, (1.0, 2.0)))
        heavy = sum(found[i] for i in range(1, 21, 2)) / sum(found.values())
        assert heavy == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize("name", ["ring-128", "rendezvous", "jump", "anchor", "straw2", "map"])
def test_a_consistent_scheme_moves_first_holders_to_the_newcomer_alone(name: str) -> None:
    (scheme,) = chosen_schemes(name)
    first = scheme.place(cluster(10), 3)
    before = first.holders_of_all(HASHES)
    after = first.changed(cluster(11)).holders_of_all(HASHES)
    gained = {
        node
        for a, b in zip(before.tolist(), after.tolist(), strict=True)
        for node in set(b) - set(a)
    }
    assert 11 in gained
    if name not in ("jump", "anchor", "straw2"):  # Those draw again where two replicas collide.
        assert gained == {11}
    if name != "map":  # The map also balances primaries, within rows.
        changed = before[:, 0] != after[:, 0]
        assert set(after[changed, 0].tolist()) == {11}


@pytest.mark.parametrize("name", ["mask", "linear", "mod"])
def test_doubling_the_nodes_moves_keys_within_fixed_pairs_only(name: str) -> None:
    (scheme,) = chosen_schemes(name)
    before = scheme.place(cluster(8), 2).holders_of_all(HASHES)[:, 0]
    after = scheme.place(cluster(16), 2).holders_of_all(HASHES)[:, 0]
    assert set((after - before).tolist()) == {0, 8}
    assert (after != before).mean() == pytest.approx(0.5, abs=0.04)


def test_linear_hashing_splits_one_bucket_at_a_time() -> None:
    (scheme,) = chosen_schemes("linear")
    for count in range(5, 16):
        before = scheme.place(cluster(count), 2).holders_of_all(HASHES)[:, 0]
        after = scheme.place(cluster(count + 1), 2).holders_of_all(HASHES)[:, 0]
        moved = before != after
        assert set(after[moved].tolist()) == {count + 1}
        assert set(before[moved].tolist()) == {count + 1 - (1 << (count.bit_length() - 1))}


def test_a_node_lost_in_the_middle_is_replaced_by_the_last_one() -> None:
    nodes = cluster(5)
    left = [node for node in nodes if node.id != 2]
    assert [node.id for node in kept_in_place(nodes, left)] == [1, 5, 3, 4]
    assert [node.id for node in kept_in_place(nodes, [*left, PlacementNode(NodeId(9))])] == [
        1, 9, 3, 4, 5,
    ]  # fmt: skip


def test_jump_gives_the_values_of_the_reference_implementation() -> None:
    # Table of the widely copied test of the paper's C++ code.
    known = {(1, 1): 0, (42, 57): 43, (0xDEAD10CC, 1): 0, (0xDEAD10CC, 666): 361, (256, 1024): 520}
    assert {case: jump(*case) for case in known} == known
    for buckets in (1, 2, 3, 10, 1000):
        assert jump_all(HASHES[:500], buckets).tolist() == [
            jump(int(h), buckets) for h in HASHES[:500]
        ]


def test_jump_agrees_with_the_package() -> None:
    pytest.importorskip("jump")
    package_hash: Callable[[int, int], int] = importlib.import_module("jump").hash
    for key in HASHES[:300].tolist():
        for buckets in (1, 7, 64, 1000):
            assert jump(key, buckets) == package_hash(key, buckets)


@pytest.mark.parametrize(("vnodes", "published"), [(10, 0.3151810), (100, 0.0996996)])
def test_a_rings_arcs_deviate_as_the_jump_paper_published(vnodes: int, published: float) -> None:
    # Lamping and Veach, table 1: standard error of bucket sizes by points per bucket.
    nodes = 1_000
    ring = Ring(cluster(nodes), 1, vnodes)
    ends = ring.point_array
    arcs = (ends - np.roll(ends, 1)).astype(np.float64) / 2**64
    sizes = np.bincount(np.array(ring.owners), arcs)[1:] * nodes
    assert sizes.std() == pytest.approx(published, rel=0.06)


def test_a_ring_is_as_uneven_as_the_packages_ring() -> None:
    pytest.importorskip("uhashring")
    package = importlib.import_module("uhashring").HashRing(
        [str(i) for i in range(1, 41)], vnodes=128
    )
    theirs = Counter(package.get_node(str(key)) for key in range(20_000))
    ours = Counter(Ring(cluster(40), 1, 128).holders_of_all(mixed_all(HASHES.repeat(5), 7)).ravel())
    for found in (theirs, ours):
        shares = np.array(list(found.values())) / sum(found.values()) * 40
        assert 0.06 < shares.std() < 0.13  # 1 / sqrt(128) = 0.088, and noise.


def test_bounded_loads_are_bounded() -> None:
    ring = BoundedRing(cluster(20), 3)
    found = Counter(ring.holders_of_all(HASHES).ravel().tolist())
    assert max(found.values()) <= math.ceil((1 + EPSILON) * 3 * len(HASHES) / 20)
    plain = Counter(Ring(cluster(20), 3).holders_of_all(HASHES).ravel().tolist())
    assert max(plain.values()) > max(found.values())


def test_multi_probe_reaches_the_published_peak_to_average() -> None:
    # Appleton and O'Reilly: k probes give at most k / (k - 1) of the mean: 1.05 with 21.
    nodes, keys = 300, 300_000
    hashes = mixed_all(np.arange(keys, dtype=np.uint64), 99)
    found = np.bincount(MultiProbe(cluster(nodes), 1).holders_of_all(hashes).ravel())[1:]
    mean = keys / nodes
    noise = 1 / math.sqrt(mean)
    assert 1 < found.max() / mean < 1.05 * (1 + 4.5 * noise)
    assert np.median(found) / mean == pytest.approx(1.03, abs=0.02)


def test_maglevs_table_is_the_papers_example() -> None:
    # Table 1 of the paper: three backends, seven places, before and after B1 is removed.
    assert populated([3, 0, 3], [4, 2, 1], [1, 1, 1], 7) == [1, 0, 1, 0, 2, 2, 0]
    assert populated([3, 3], [4, 1], [1, 1], 7) == [0, 0, 0, 0, 1, 1, 1]


def test_maglevs_small_table_is_as_even_as_published() -> None:
    # Section 5.3: with 65,537 places and up to a thousand backends, within 1.02 at a hundred.
    counts = Counter(populated([7 * i + 1 for i in range(100)], [13 * i + 5 for i in range(100)],
                               [1.0] * 100, 65_537))  # fmt: skip
    assert max(counts.values()) - min(counts.values()) <= 1


@given(removals=st.lists(st.integers(0, 100), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_anchor_moves_only_the_keys_of_a_removed_bucket_and_brings_them_back(
    removals: list[int],
) -> None:
    anchor = Anchor(40, 20)
    keys = HASHES[:400]
    for choice in removals:
        before = anchor.bucket_of_all(keys)
        working = sorted(set(range(40)) - set(anchor.removed))
        bucket = working[choice % len(working)]
        anchor.remove(bucket)
        after = anchor.bucket_of_all(keys)
        assert sorted(anchor.bucket_at[: anchor.working]) == sorted(set(working) - {bucket})
        assert all(anchor.bucket_at[anchor.place[each]] == each for each in set(working) - {bucket})
        assert (after[before != bucket] == before[before != bucket]).all()
        assert bucket not in after
        if choice % 3 == 0:
            assert anchor.add() == bucket
            assert (anchor.bucket_of_all(keys) == before).all()


def test_anchor_takes_as_many_steps_as_the_paper_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Theorem on complexity: at most 1 + ln(capacity / working) hashes a look-up, on average.
    calls = 0

    def counted(key: int, salt: int) -> int:
        nonlocal calls
        calls += 1
        return mixed(key, salt)

    monkeypatch.setattr(anchor_module, "mixed", counted)
    anchor = Anchor(1_000, 100)
    for key in HASHES[:3_000].tolist():
        anchor.bucket(key)
    assert calls / 3_000 <= 1 + math.log(10) + 0.1


def test_an_anchor_has_the_capacity_it_was_made_with() -> None:
    with pytest.raises(TooManyNodes, match="4 buckets"):
        Anchor(4, 4).add()


def test_straw2_moves_nothing_between_nodes_whose_weight_stays() -> None:
    light = [PlacementNode(NodeId(i)) for i in range(1, 11)]
    heavy = [replace(node, weight=2.0 if node.id == 3 else 1.0) for node in light]
    before = Straw2(light, 1).holders_of_all(HASHES)[:, 0]
    after = Straw2(heavy, 1).holders_of_all(HASHES)[:, 0]
    assert set(after[before != after].tolist()) == {3}


def test_swifts_ring_is_there_only_where_its_package_is() -> None:
    names = [scheme.name for scheme in all_schemes()]
    installed = importlib.util.find_spec("swift") is not None
    assert ("swift" in names) == installed
