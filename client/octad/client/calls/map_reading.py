"""The coordinator's documents of the map and the nodes, as a client needs them.

Apart from `map_keeper.py` for what it imports: who has no coordinator does without.
"""

from __future__ import annotations

import msgspec

from octad.client.cluster.cluster_documents import NodesDocument
from octad.client.http.transport import Address
from octad.client.runtime.address import parse_address
from octad.sharding.ids import NodeId, PoolId
from octad.sharding.map.compact_map import decode_map
from octad.sharding.map.pool_lookup import PoolLookup


def addresses_of(document: bytes) -> dict[NodeId, Address]:
    """Where the live nodes serve S3. Raises ValueError."""
    found = {}
    for node in msgspec.json.decode(document, type=NodesDocument).nodes:
        if node.live and node.s3_address is not None:
            host, port = parse_address(node.s3_address)
            found[NodeId(int(node.name.removeprefix("n")))] = Address(host, port, node.s3_tls)
    return found


def lookups_of(document: bytes) -> dict[PoolId, PoolLookup]:
    """Look-ups of every pool, from the binary form of the map. Raises ValueError."""
    shard_map = decode_map(document)
    return {pool: PoolLookup(shard_map, pool) for pool in shard_map.pools}
