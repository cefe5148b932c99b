"""The state machine of a shard is made of small parts: each owns its state, and keeps it to itself.

Read from the code: whatever is assigned, in an object or in a container that it holds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from octad.storage_node.replication.replica import shard_replica

CORE = Path(shard_replica.__file__).parent
# Whose classes make others of themselves, or hold records that are theirs alone.
MAKERS = {"shard_log.py", "request_window.py", "pair_leases.py"}
ATTRIBUTES_MAX = 12


def test_no_part_writes_what_another_owns() -> None:
    written = {
        f"{path.name}:{target.lineno}: {ast.unparse(target)}"
        for path in CORE.glob("*.py")
        if path.name not in MAKERS
        for target in targets_in(ast.parse(path.read_text()))
        if not is_own(target)
    }
    assert written == set()


def test_a_part_knows_few_things() -> None:
    attributes = {
        part.name: {ast.unparse(target) for target in targets_in(begin)}
        for path in CORE.glob("*.py")
        for part in ast.parse(path.read_text()).body
        if isinstance(part, ast.ClassDef)
        for begin in part.body
        if isinstance(begin, ast.FunctionDef) and begin.name == "__init__"
    }
    del attributes["ShardReplica"]  # It has the parts, and what is called without a detour.
    assert len(attributes["Primary"]) > 1
    assert {name: known for name, known in attributes.items() if len(known) > ATTRIBUTES_MAX} == {}


def targets_in(tree: ast.AST) -> Iterable[ast.expr]:
    """Whatever is assigned or deleted, but for names of a function's own."""
    stored = (ast.Store, ast.Del)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, stored):
            yield node


def is_own(target: ast.expr) -> bool:
    """`self.name`, `self.name[…]`, or something in a container that the function has at hand."""
    inner = target.value if isinstance(target, ast.Subscript) else target
    if isinstance(inner, ast.Attribute):
        return isinstance(inner.value, ast.Name) and inner.value.id == "self"
    return isinstance(inner, ast.Name)
