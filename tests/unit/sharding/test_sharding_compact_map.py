"""The binary form of the shard map: exact, small, versioned, and suspicious of what it reads."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from octad.sharding.assignment.assignment import PlacementNode, first_assignment
from octad.sharding.ids import Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.map.compact_map import (
    CorruptMap,
    UnencodableConfiguration,
    decode_map,
    encode_map,
)
from octad.sharding.map.shard_map import (
    FormerMember,
    Learner,
    Member,
    NewerFormat,
    Pool,
    ShardConfiguration,
    ShardMap,
)

GOLDEN = Path(__file__).parents[2] / "golden/sharding"
NODES = st.integers(0, 65_535).map(NodeId)
SEQS = st.integers(0, 2**40).map(Seq)
INCARNATIONS = st.text(max_size=20)


@st.composite
def configurations(draw: st.DrawFn) -> ShardConfiguration:
    epoch = Epoch(draw(st.integers(0, 2**40)))
    nodes = draw(st.lists(NODES, min_size=1, max_size=7, unique=True))
    members = []
    for place, node in enumerate(nodes):
        recruit = 0 < place < 4 and draw(st.booleans())
        base = draw(SEQS) if recruit else Seq(0)
        base_epoch = Epoch(draw(st.integers(0, epoch))) if recruit else Epoch(0)
        members.append(Member(node, draw(INCARNATIONS), base, base_epoch))
    return ShardConfiguration(
        epoch,
        draw(st.integers(0, 18)),
        draw(st.sampled_from(nodes)),
        tuple(members),
        tuple(draw(st.lists(st.builds(Learner, NODES, INCARNATIONS), max_size=7))),
        tuple(draw(st.lists(st.builds(FormerMember, NODES, INCARNATIONS, SEQS), max_size=7))),
    )


@st.composite
def halves(
    draw: st.DrawFn, pool: Pool, number: int, depth: int, known: dict[ShardId, ShardConfiguration]
) -> None:
    """A configuration, or none, and the same for its upper halves, as while a pool is split."""
    if not draw(st.booleans()):
        return
    configuration = known[shard_id(pool.id, number)] = draw(configurations())
    for split in range(depth, min(configuration.depth, pool.depth + 2)):
        draw(halves(pool, number + (1 << split), split + 1, known))


@st.composite
def maps(draw: st.DrawFn) -> ShardMap:
    ids = draw(st.lists(st.integers(0, 2**31).map(PoolId), max_size=2, unique=True))
    pools = {id_: Pool(id_, draw(st.integers(1, 3)), draw(st.integers(0, 2))) for id_ in ids}
    known: dict[ShardId, ShardConfiguration] = {}
    for pool in pools.values():
        for number in range(1 << pool.depth):
            draw(halves(pool, number, pool.depth, known))
    return ShardMap(pools, known)


def example() -> ShardMap:
    """One of everything: two pools, a missing shard, a recruit, a learner, a former member."""
    whole = tuple(Member(NodeId(i), f"disk-{i}") for i in (1, 2, 3))
    recruit = Member(NodeId(4), "disk-4", Seq(1000), Epoch(6))
    former = FormerMember(NodeId(3), "disk-3", Seq(998))
    small = {
        0: ShardConfiguration(Epoch(1), 1, NodeId(1), whole[:2]),
        1: ShardConfiguration(Epoch(300), 2, NodeId(2), whole[:2]),
    }
    large = {
        0: ShardConfiguration(Epoch(7), 2, NodeId(2), (*whole[:2], recruit), (), (former,)),
        1: ShardConfiguration(Epoch(2), 2, NodeId(3), whole, (Learner(NodeId(4), "disk-4"),)),
        3: ShardConfiguration(Epoch(1), 2, NodeId(1), whole),
    }
    return ShardMap(
        {PoolId(0): Pool(PoolId(0), 2, 1), PoolId(1): Pool(PoolId(1), 3, 2)},
        {shard_id(PoolId(0), n): configuration for n, configuration in small.items()}
        | {shard_id(PoolId(1), n): configuration for n, configuration in large.items()},
    )


def half_split() -> ShardMap:
    """Shard 1 of two was split twice, its first upper half, 3, once more; 5 is not known."""
    members = tuple(Member(NodeId(i), f"disk-{i}") for i in (1, 2))
    led = {0: (1, 1, 1), 1: (4, 3, 2), 3: (3, 3, 1), 7: (3, 3, 2)}
    known = {
        shard_id(PoolId(0), number): ShardConfiguration(
            Epoch(epoch), depth, NodeId(primary), members
        )
        for number, (epoch, depth, primary) in led.items()
    }
    return ShardMap({PoolId(0): Pool(PoolId(0), 2, 1)}, known)


def large(nodes: int, *, degraded: bool = False, moving: bool = False) -> ShardMap:
    """4,096 shards with three replicas; optionally node 0 lost, or a learner in every shard."""
    pool = Pool(PoolId(1), 3, 12)
    assigned = first_assignment([PlacementNode(NodeId(i)) for i in range(nodes)], 3, 12)
    known = {}
    for number, row in enumerate(assigned):
        members = [Member(node, f"{node:032x}") for node in row]
        learners: tuple[Learner, ...] = ()
        former: tuple[FormerMember, ...] = ()
        if degraded and NodeId(0) in row:
            spare = next(NodeId(i) for i in range(nodes) if NodeId(i) not in row)
            base = Seq(2**33 + number)
            members = [each for each in members if each.node != 0]
            members.append(Member(spare, f"{spare:032x}", base, Epoch(5_000)))
            former = (FormerMember(NodeId(0), f"{0:032x}", Seq(base - 3)),)
        if moving:
            learners = (Learner(NodeId((row[0] + 1) % nodes), "f" * 32),)
        known[shard_id(pool.id, number)] = ShardConfiguration(
            Epoch(5_001), 12, members[0].node, tuple(members), learners, former
        )
    return ShardMap({pool.id: pool}, known)


@given(shard_map=maps())
@settings(max_examples=150, deadline=None)
def test_every_map_comes_back_as_it_was(shard_map: ShardMap) -> None:
    assert decode_map(encode_map(shard_map)) == shard_map


def test_equal_maps_are_equal_bytes_whatever_the_order_of_their_shards() -> None:
    shard_map = example()
    turned = ShardMap(
        dict(reversed(list(shard_map.pools.items()))),
        dict(reversed(list(shard_map.configurations.items()))),
    )
    assert encode_map(turned) == encode_map(shard_map)


def test_version_1_is_what_it_has_always_been() -> None:
    golden = bytes.fromhex((GOLDEN / "shard_map_v1.hex").read_text())
    assert encode_map(example()) == golden
    assert decode_map(golden) == example()


def test_version_2_is_what_it_has_always_been() -> None:
    golden = bytes.fromhex((GOLDEN / "shard_map_v2.hex").read_text())
    assert encode_map(half_split()) == golden
    assert decode_map(golden) == half_split()


def test_the_bytes_in_the_documents_are_those_of_both_versions() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/shard-map.md").read_text()
    shown = []
    for block in page.split("```text\n")[1:]:
        lines = block.partition("```")[0].splitlines()
        octets = "".join(line[:38] if len(line) > 38 else line for line in lines)
        shown.append(bytes.fromhex(octets))
    assert shown == [encode_map(example()), encode_map(half_split())]


def test_only_a_map_with_an_upper_half_needs_version_2() -> None:
    shard_map = half_split()
    assert encode_map(shard_map)[4] == 2
    low = {
        shard: configuration
        for shard, configuration in shard_map.configurations.items()
        if shard < 2
    }
    assert encode_map(ShardMap(shard_map.pools, low))[4] == 1


def test_while_a_pool_is_split_every_key_is_found_in_the_binary_form() -> None:
    shard_map = half_split()
    decoded = decode_map(encode_map(shard_map))
    for hash_ in range(16):
        shard = decoded.shard_of_hash(PoolId(0), hash_)
        assert shard == shard_map.shard_of_hash(PoolId(0), hash_)
        assert decoded.configurations.get(shard) == shard_map.configurations.get(shard)
    assert {decoded.shard_of_hash(PoolId(0), h) for h in (3, 7)} == {3, 7}


def test_a_pool_of_4096_shards_that_is_half_split_fits_48_kib() -> None:
    whole = large(100)
    pool = whole.pools[PoolId(1)]
    known = dict(whole.configurations)
    for number in range(0, 4096, 2):
        low = msgspec.structs.replace(
            known[shard_id(pool.id, number)], epoch=Epoch(5_002), depth=13
        )
        known[shard_id(pool.id, number)] = known[shard_id(pool.id, number + 4096)] = low
    shard_map = ShardMap(whole.pools, known)
    encoded = encode_map(shard_map)
    assert len(encoded) <= 48 * 1024
    assert decode_map(encoded) == shard_map


@pytest.mark.parametrize(
    "shard_map",
    [
        large(100),
        large(100, moving=True),
        large(400),
        large(4, degraded=True),
        large(9, degraded=True),
    ],
    ids=["healthy", "every shard moving", "over 256 nodes", "1 of 4 lost", "1 of 9 lost"],
)
def test_4096_shards_at_3x_fit_64_kib_in_every_usual_state(shard_map: ShardMap) -> None:
    encoded = encode_map(shard_map)
    assert len(encoded) <= 64 * 1024
    assert decode_map(encoded) == shard_map


def test_a_newer_version_is_refused_by_name() -> None:
    encoded = bytearray(encode_map(example()))
    encoded[4] = 3
    with pytest.raises(NewerFormat, match="format 3, this octad knows 2"):
        decode_map(bytes(encoded))


def test_any_flipped_byte_is_noticed() -> None:
    for encoded in (encode_map(example()), encode_map(half_split())):
        for at in range(len(encoded)):
            damaged = bytearray(encoded)
            damaged[at] ^= 0x01
            with pytest.raises((CorruptMap, NewerFormat)):
                decode_map(bytes(damaged))


@given(data=st.binary(max_size=60), cut=st.integers(0, 200))
def test_bytes_that_are_no_map_are_refused_even_with_a_right_checksum(
    data: bytes, cut: int
) -> None:
    whole = encode_map(example()), encode_map(half_split())
    for body in (data, b"OCTM\x02\x01" + data, *(each[:cut] for each in whole)):
        sealed = body + xxh3_64_intdigest(body).to_bytes(8, "little")
        try:
            decoded = decode_map(sealed)
        except CorruptMap:
            continue
        assert decode_map(encode_map(decoded)) == decoded


def test_configurations_the_format_has_no_room_for_are_refused() -> None:
    for configuration in (
        ShardConfiguration(Epoch(1), 0, NodeId(9), (Member(NodeId(1), "a"),)),
        ShardConfiguration(Epoch(1), 0, NodeId(1), ()),
        ShardConfiguration(Epoch(1), 0, NodeId(0), tuple(Member(NodeId(i), "a") for i in range(8))),
        ShardConfiguration(Epoch(1), 0, NodeId(1), (Member(NodeId(1), "a" * 256),)),
        ShardConfiguration(Epoch(1), 0, NodeId(1), (Member(NodeId(1), "a", Seq(1), Epoch(2)),)),
        ShardConfiguration(Epoch(1), 19, NodeId(1), (Member(NodeId(1), "a"),)),
    ):
        shard_map = ShardMap(
            {PoolId(0): Pool(PoolId(0), 1, 0)}, {shard_id(PoolId(0), 0): configuration}
        )
        with pytest.raises(UnencodableConfiguration):
            encode_map(shard_map)
