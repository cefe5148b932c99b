"""The list of schemes, in the order of the tables."""

from __future__ import annotations

from functools import partial

from octad.sharding.study.rivals import swift_ring
from octad.sharding.study.rivals.anchor import AnchorPlacement
from octad.sharding.study.rivals.bad_input import BadInput
from octad.sharding.study.rivals.maglev import Maglev
from octad.sharding.study.rivals.numbered import Jump, Linear, Mask, Modulo
from octad.sharding.study.rivals.ring import BoundedRing, MultiProbe, Ring
from octad.sharding.study.rivals.scheme import Scheme
from octad.sharding.study.rivals.shard_table import ShardTable
from octad.sharding.study.rivals.weighted import Rendezvous, Straw2

OURS = "map"

_ALWAYS = (
    Scheme(
        OURS, "2^12 shards + minimal-move map (octad)", "this project", ShardTable,
        weights=True, zones=True,
    ),
    Scheme(
        "map-2^16", "2^16 shards + minimal-move map", "this project", partial(ShardTable, depth=16),
        weights=True, zones=True,
    ),
    Scheme("mod", "hash mod N + successors", "folklore", Modulo),
    Scheme("mask", "2^k mask, node = shard", "folklore", Mask),
    Scheme("linear", "linear hashing", "Litwin, VLDB 1980", Linear),
    Scheme(
        "ring-128", "ring, 128 virtual nodes", "Karger et al., STOC 1997",
        partial(Ring, vnodes=128), weights=True, zones=True,
    ),
    Scheme(
        "ring-256", "ring, 256 virtual nodes", "Karger et al., STOC 1997",
        partial(Ring, vnodes=256), weights=True, zones=True,
    ),
    Scheme(
        "bounded", "ring with bounded loads, 5 %", "Mirrokni et al., SODA 2018", BoundedRing,
        weights=True,
    ),
    Scheme("jump", "jump consistent hash", "Lamping and Veach, 2014", Jump),
    Scheme(
        "rendezvous", "rendezvous (highest random weight)", "Thaler and Ravishankar, ToN 1998",
        Rendezvous, weights=True, zones=True,
    ),
    Scheme(
        "maglev", "maglev, table of 65,537", "Eisenbud et al., NSDI 2016", Maglev, weights=True
    ),
    Scheme(
        "multi-probe", "multi-probe, 21 probes", "Appleton and O'Reilly, 2015", MultiProbe
    ),
    Scheme("anchor", "AnchorHash", "Mendelson et al., ToN 2021", AnchorPlacement),
    Scheme(
        "straw2", "CRUSH-like straw2", "Weil et al., SC 2006; Ceph", Straw2,
        weights=True, zones=True,
    ),
)  # fmt: skip

_SWIFT = Scheme(
    "swift", "Swift's ring, 2^12 partitions", "OpenStack Swift", swift_ring.SwiftRing,
    weights=True, zones=True,
)  # fmt: skip


# Beside the others it shows nothing new and takes as long as all of them: only when named.
BY_NAME_ONLY = frozenset({"map-2^16"})


def all_schemes() -> tuple[Scheme, ...]:
    """Every scheme that can run here; Swift's ring only where its package is installed."""
    return (*_ALWAYS, _SWIFT) if swift_ring.is_installed() else _ALWAYS


def chosen_schemes(text: str) -> tuple[Scheme, ...]:
    """Parses `map,ring-128`; the default schemes for an empty text."""
    known = {scheme.name: scheme for scheme in all_schemes()}
    if not text:
        return tuple([known[name] for name in known if name not in BY_NAME_ONLY])
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name == _SWIFT.name and name not in known:
            raise BadInput("Swift's ring is not installed", "run: pip install swift")
        if name not in known:
            raise BadInput(f"--schemes {name!r} is not known", f"give some of {', '.join(known)}")
    return tuple([known[name] for name in dict.fromkeys(names)])
