"""The shard map in few bytes: what clients and nodes fetch, cache on disk and compare.

A healthy shard with three replicas takes about 8 bytes: 4,096 of them are some 32 KiB, and stay
below 64 KiB while shards move or nodes are down. Little-endian; a varint is LEB128, unsigned.

    map      := "OCTM" | version u8 | width u8 | identities | pools | xxh3_64 of all before: u64
    identities := count u16 | count x (node u16 | length u8 | incarnation, UTF-8)
    pools    := count u16 | count x (id u32 | replicas u8 | depth u8 | 2^depth places)
    place    := shard | in version 2, where the shard is deeper than its place: the place of the
                upper half of each split that made it so, the first split's first
    shard    := 0                                    when no configuration is known
              | head u8 | epoch varint | [depth u8] | members | [states]
    head     := bits 0-2 number of members, 3-5 the primary's place among them,
                6 states follow, 7 the shard's depth differs from its place's and follows
    members  := an index into the identities each, in `width` bytes (1 or 2)
    states   := counts u8 (bits 0-1 recruits, 2-4 learners, 5-7 former members)
              | recruits x (place u8 | base varint | epoch - base_epoch varint)
              | learners x index | former members x (index | zigzag(upto - reference) varint)

The place of one of a pool's own shards has the pool's depth, that of the upper half of a split one
more than what was split. A map that knows no upper half, as all do but while a pool is split, is
written in version 1, which has no room for any.

The reference is the first recruit's base, or 0: a removed member is complete up to about there.
Identities and pools come in ascending order, so equal maps are equal bytes. The format is explained
with an example in `docs/reference/shard-map.md`. This file knows bytes only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from xxhash import xxh3_64_intdigest

from octad.sharding.ids import (
    SHARD_NUMBER_BITS,
    Epoch,
    NodeId,
    PoolId,
    Seq,
    ShardId,
    number_of,
    pool_of,
    shard_id,
)
from octad.sharding.limits import NODE_ID_MAX, SHARD_DEPTH_MAX
from octad.sharding.map.shard_map import (
    FormerMember,
    Learner,
    Member,
    NewerFormat,
    Pool,
    ShardConfiguration,
    ShardMap,
)

MAGIC = b"OCTM"
VERSION_WITHOUT_HALVES = 1
VERSION = 2
CHECKSUM_BYTES = 8
MEMBERS_MAX = 7
RECRUITS_MAX = 3
LEARNERS_MAX = 7
FORMER_MAX = 7
VARINT_BYTES_MAX = 10

HAS_STATES = 1 << 6
HAS_DEPTH = 1 << 7

_HEADER = struct.Struct("<4sBBH")
_POOL = struct.Struct("<IBB")

Identity = tuple[NodeId, str]


class CorruptMap(ValueError):
    """The bytes are not a complete, intact shard map."""


class UnencodableConfiguration(ValueError):
    """A configuration that the format has no room for; no protocol state needs one."""


def encode_map(shard_map: ShardMap) -> bytes:
    """`shard_map` in its binary form."""
    identities = sorted(
        {
            each
            for configuration in shard_map.configurations.values()
            for each in _identities(configuration)
        }
    )
    if len(identities) > NODE_ID_MAX:
        raise UnencodableConfiguration(f"{len(identities)} identities: at most {NODE_ID_MAX}")
    width = 1 if len(identities) <= 256 else 2
    version = VERSION if _knows_upper_halves(shard_map) else VERSION_WITHOUT_HALVES
    out = bytearray(_HEADER.pack(MAGIC, version, width, len(identities)))
    for node, incarnation in identities:
        name = incarnation.encode()
        if len(name) > 255:
            raise UnencodableConfiguration(f"an incarnation of {len(name)} bytes: at most 255")
        out += node.to_bytes(2, "little") + bytes([len(name)]) + name
    index = {each: i.to_bytes(width, "little") for i, each in enumerate(identities)}
    out += len(shard_map.pools).to_bytes(2, "little")
    for pool in sorted(shard_map.pools.values(), key=lambda each: each.id):
        out += _POOL.pack(pool.id, pool.replicas, pool.depth)
        for number in range(1 << pool.depth):
            for configuration, depth in _configurations(
                shard_map, pool.id, number, pool.depth, version
            ):
                out += (
                    b"\0"
                    if configuration is None
                    else _encode_configuration(configuration, depth, index)
                )
    return bytes(out) + xxh3_64_intdigest(out).to_bytes(CHECKSUM_BYTES, "little")


def _knows_upper_halves(shard_map: ShardMap) -> bool:
    depths = {pool.id: pool.depth for pool in shard_map.pools.values()}
    return any(
        number_of(shard) >> depths.get(pool_of(shard), SHARD_NUMBER_BITS)
        for shard in shard_map.configurations
    )


def _configurations(
    shard_map: ShardMap, pool: PoolId, number: int, depth: int, version: int
) -> Iterator[tuple[ShardConfiguration | None, int]]:
    """The configuration at a place and, from version 2 on, all its upper halves, with depths."""
    configuration = shard_map.configurations.get(shard_id(pool, number))
    yield configuration, depth
    if configuration is not None and version > VERSION_WITHOUT_HALVES:
        for split in range(depth, configuration.depth):
            yield from _configurations(shard_map, pool, number + (1 << split), split + 1, version)


def _identities(configuration: ShardConfiguration) -> list[Identity]:
    holders: list[Member | Learner | FormerMember] = [
        *configuration.members,
        *configuration.learners,
        *configuration.last_full,
    ]
    return [(each.node, each.incarnation) for each in holders]


def _encode_configuration(
    configuration: ShardConfiguration, place_depth: int, index: dict[Identity, bytes]
) -> bytes:
    recruits = [
        place for place, each in enumerate(configuration.members) if each.base or each.base_epoch
    ]
    places = [
        place
        for place, each in enumerate(configuration.members)
        if each.node == configuration.primary
    ]
    if configuration.depth > SHARD_DEPTH_MAX:
        raise UnencodableConfiguration(
            f"a configuration of depth {configuration.depth}: at most {SHARD_DEPTH_MAX}"
        )
    if not 1 <= len(configuration.members) <= MEMBERS_MAX or len(places) != 1:
        raise UnencodableConfiguration(
            f"{len(configuration.members)} members, {len(places)} of them primary"
        )
    if (
        len(recruits) > RECRUITS_MAX
        or len(configuration.learners) > LEARNERS_MAX
        or len(configuration.last_full) > FORMER_MAX
    ):
        raise UnencodableConfiguration(
            f"{len(recruits)} recruits, {len(configuration.learners)} learners,"
            f" {len(configuration.last_full)} former members:"
            f" at most {RECRUITS_MAX}, {LEARNERS_MAX} and {FORMER_MAX}"
        )
    states = bool(recruits or configuration.learners or configuration.last_full)
    head = len(configuration.members) | places[0] << 3
    head |= HAS_STATES * states | HAS_DEPTH * (configuration.depth != place_depth)
    parts = [bytes([head]), _varint(configuration.epoch)]
    if configuration.depth != place_depth:
        parts.append(bytes([configuration.depth]))
    parts += [index[each.node, each.incarnation] for each in configuration.members]
    if states:
        parts.append(_encode_states(configuration, recruits, index))
    return b"".join(parts)


def _encode_states(
    configuration: ShardConfiguration, recruits: list[int], index: dict[Identity, bytes]
) -> bytes:
    parts = [
        bytes(
            [len(recruits) | len(configuration.learners) << 2 | len(configuration.last_full) << 5]
        )
    ]
    for place in recruits:
        member = configuration.members[place]
        if member.base_epoch > configuration.epoch:
            raise UnencodableConfiguration(
                f"a recruit of epoch {member.base_epoch} in epoch {configuration.epoch}"
            )
        parts += [
            bytes([place]),
            _varint(member.base),
            _varint(configuration.epoch - member.base_epoch),
        ]
    parts += [index[each.node, each.incarnation] for each in configuration.learners]
    reference = configuration.members[recruits[0]].base if recruits else 0
    for former in configuration.last_full:
        distance = former.upto - reference
        zigzag = distance << 1 if distance >= 0 else (-distance << 1) - 1
        parts += [index[former.node, former.incarnation], _varint(zigzag)]
    return b"".join(parts)


def _varint(number: int) -> bytes:
    if number < 0 or number >> 64:
        raise UnencodableConfiguration(f"{number} is no number of 64 bits")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_map(data: bytes) -> ShardMap:
    """The map in `data`; raises NewerFormat, or CorruptMap when it is not intact."""
    if len(data) < _HEADER.size + CHECKSUM_BYTES or not data.startswith(MAGIC):
        raise CorruptMap("not a shard map")
    if data[len(MAGIC)] > VERSION:
        raise NewerFormat(f"shard map of format {data[len(MAGIC)]}, this octad knows {VERSION}")
    body = data[:-CHECKSUM_BYTES]
    if xxh3_64_intdigest(body) != int.from_bytes(data[-CHECKSUM_BYTES:], "little"):
        raise CorruptMap("the checksum differs")
    reader = _Reader(body)
    try:
        shard_map = reader.read_map()
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise CorruptMap(f"at byte {reader.at}: {error}") from error
    if reader.at != len(body):
        raise CorruptMap(f"{len(body) - reader.at} bytes too many")
    return shard_map


class _Reader:
    """Reads a map's parts one after the other."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self.version = 0
        self.configurations: dict[ShardId, ShardConfiguration] = {}
        self.identities: list[Identity] = []
        self.index: Callable[[], Identity] = self._narrow_index

    def read_map(self) -> ShardMap:
        _, self.version, width, count = _HEADER.unpack_from(self.body)
        self.at = _HEADER.size
        if not self.version or width not in (1, 2):
            raise CorruptMap(f"version {self.version}, width {width}")
        self.index = self._narrow_index if width == 1 else self._wide_index
        self.identities = [self._identity() for _ in range(count)]
        pools: dict[PoolId, Pool] = {}
        for _ in range(self._u16()):
            id_, replicas, depth = _POOL.unpack_from(self.body, self.at)
            self.at += _POOL.size
            if depth > SHARD_DEPTH_MAX:
                raise CorruptMap(f"a pool of depth {depth}")
            pool = Pool(PoolId(id_), replicas, depth)
            pools[pool.id] = pool
            for number in range(1 << depth):
                self._read_configurations(pool.id, number, depth)
        return ShardMap(pools, self.configurations)

    def _read_configurations(self, pool: PoolId, number: int, depth: int) -> None:
        """The configuration at a place of this depth, and those of the halves split from it."""
        configuration = self._configuration(depth)
        if configuration is None:
            return
        self.configurations[shard_id(pool, number)] = configuration
        if self.version > VERSION_WITHOUT_HALVES:
            for split in range(depth, configuration.depth):
                self._read_configurations(pool, number + (1 << split), split + 1)

    def _identity(self) -> Identity:
        node, length = NodeId(self._u16()), self._byte()
        name = self.body[self.at : self.at + length]
        if len(name) < length:
            raise IndexError("an incarnation is cut off")
        self.at += length
        return node, name.decode()

    def _configuration(self, place_depth: int) -> ShardConfiguration | None:
        head = self._byte()
        if not head:
            return None
        epoch = Epoch(self._varint())
        depth = self._byte() if head & HAS_DEPTH else place_depth
        if depth > SHARD_DEPTH_MAX:
            raise CorruptMap(f"a configuration of depth {depth}")
        holders = [self.index() for _ in range(head & 7)]
        members = [Member(node, incarnation) for node, incarnation in holders]
        learners: tuple[Learner, ...] = ()
        former: tuple[FormerMember, ...] = ()
        if head & HAS_STATES:
            learners, former = self._states(epoch, members)
        primary = members[head >> 3 & 7].node
        return ShardConfiguration(epoch, depth, primary, tuple(members), learners, former)

    def _states(
        self, epoch: Epoch, members: list[Member]
    ) -> tuple[tuple[Learner, ...], tuple[FormerMember, ...]]:
        """Learners and former members; recruits get their bases in `members`."""
        counts = self._byte()
        reference = 0
        for nth in range(counts & 3):
            place, base, age = self._byte(), self._varint(), self._varint()
            member = members[place]
            members[place] = Member(member.node, member.incarnation, Seq(base), Epoch(epoch - age))
            reference = reference if nth else base
        learners = tuple([Learner(*self.index()) for _ in range(counts >> 2 & 7)])
        former = []
        for _ in range(counts >> 5):
            node, incarnation = self.index()
            zigzag = self._varint()
            distance = -(zigzag + 1 >> 1) if zigzag & 1 else zigzag >> 1
            former.append(FormerMember(node, incarnation, Seq(reference + distance)))
        return learners, tuple(former)

    def _narrow_index(self) -> Identity:
        return self.identities[self._byte()]

    def _wide_index(self) -> Identity:
        return self.identities[self._u16()]

    def _byte(self) -> int:
        self.at += 1
        return self.body[self.at - 1]

    def _u16(self) -> int:
        return self._byte() | self._byte() << 8

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 7 * VARINT_BYTES_MAX, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise CorruptMap(f"at byte {self.at}: a number of more than 64 bits")
