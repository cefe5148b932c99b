"""Rooms build on one another in one order, and no module imports one that imports it."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

from tests.unit.tidy.code_base import imports_of, modules, product, room_of

# From the bottom up, within each part; the parts themselves are layers of `lint-imports`.
ROOMS = {
    "octad.sharding": [
        "", "assignment", "map", "study.rivals", "study.model", "study.report", "study",
    ],
    "octad.client": [
        "", "s3", "runtime.logs", "runtime", "http", "resilience", "cluster", "membership",
        "kv", "calls", "objects", "adapters", "log", "checkpoints.rules", "checkpoints", "cli",
        "cli.coordination", "cli.log", "cli.access", "cli.checkpoints", "cli.transfers",
        "cli.objects", "cli.completion", "cli.top",
    ],
    "octad.coordinator": [
        "", "tls", "store", "schema", "admin", "mirror", "membership", "checks", "locks", "kv",
        "discovery", "dns", "placement", "status", "recovery", "diagnosis", "server", "http", "cli",
        "cli.trace",
    ],
    "octad.storage_node": [
        "", "memory", "rpc", "journal", "index", "operations", "replication",
        "replication.replica", "history", "replication.host",
        "shards.listing", "shards", "objects", "log", "upkeep", "rebuild", "s3.protocol.xml",
        "s3.protocol.signatures",
        "s3.protocol.requests", "s3.protocol.forms", "s3.protocol", "s3.handlers",
        "s3.handlers.settings", "s3.handlers.forms", "s3.answering", "s3.http", "s3",
        "log.http", "node.reports", "node", "cli", "dev",
    ],
    "octad.chaos": ["cluster", "load", "check", "faults", "run", ""],
}  # fmt: skip


def test_rooms_import_what_is_below_them() -> None:
    height = {
        f"{part}.{room}".rstrip("."): at
        for part, rooms in ROOMS.items()
        for at, room in enumerate(rooms)
    }
    upward = [
        f"{module} → {imported}"
        for module in product()
        if room_of(module) in height
        for imported in imports_of(module)
        if imported in modules() and module.split(".")[1] == imported.split(".")[1]
        if height[room_of(module)] < height[room_of(imported)]
    ]
    assert upward == []


def test_every_room_has_its_place_in_the_order() -> None:
    placed = {f"{part}.{room}".rstrip(".") for part, rooms in ROOMS.items() for room in rooms}
    rooms = {room_of(module) for module in product()} - {"octad"}
    assert {room for room in rooms if room not in placed} == set()


def test_no_module_imports_one_that_imports_it_in_the_end() -> None:
    """By taking away, again and again, what imports nothing that is left."""
    ours = set(product())
    left = {module: set(imports_of(module) & ours) for module in ours}
    importers = defaultdict(set)
    for module, imported in left.items():
        for each in imported:
            importers[each].add(module)
    ready = [module for module, imported in left.items() if not imported]
    while ready:
        done = ready.pop()
        del left[done]
        for importer in importers[done]:
            left[importer].discard(done)
            if not left[importer]:
                ready.append(importer)
    in_circles = {module for module in left if module in set(chain(*left.values()))}
    assert in_circles == set()
