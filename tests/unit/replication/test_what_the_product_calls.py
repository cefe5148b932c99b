"""What only the simulation calls protects no one: the product has to reach it, too.

By names alone, from the code around the replication core through what that calls in it. So a name
that means two things may hide one of them, but nothing that is called is ever reported.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from octad.storage_node.replication.replica import shard_primary

ROOM = Path(shard_primary.__file__).parents[1]
CORE = {*ROOM.glob("*.py"), *(ROOM / "replica").glob("*.py")}
PRODUCT = ROOM.parent


def test_whatever_the_replication_core_has_the_product_calls() -> None:
    bodies: dict[str, set[str]] = defaultdict(set)
    for tree in trees(CORE):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                bodies[node.name] |= names_in(node)
    around = [path for path in PRODUCT.rglob("*.py") if path not in CORE]
    begin = [names_in(tree) for tree in trees(around)]
    begin += [called for name, called in bodies.items() if name.startswith("__")]
    reached: set[str] = set()
    found = set[str]().union(*begin)
    while found:
        reached |= found
        found = set[str]().union(*(bodies[name] for name in found & bodies.keys())) - reached
    uncalled = {name for name in bodies.keys() - reached if not name.startswith("__")}
    assert uncalled == set()


def trees(paths: Iterable[Path]) -> Iterable[ast.Module]:
    return (ast.parse(path.read_text()) for path in paths)


def names_in(tree: ast.AST) -> set[str]:
    nodes = list(ast.walk(tree))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {
        node.id for node in nodes if isinstance(node, ast.Name)
    }
