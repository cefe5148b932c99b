"""The code as the tidiness tests see it: modules, what each imports, and where it stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PARTS = ("sharding", "client", "coordinator", "storage_node", "chaos")
PLACES = (*PARTS, "tests", "tools")


@cache
def modules() -> Mapping[str, Path]:
    """Every module of product, tests and tools by its dotted name."""
    found = {}
    for place in PLACES:
        for path in sorted((REPOSITORY / place).rglob("*.py")):
            start = REPOSITORY / place if place in PARTS else REPOSITORY
            names = path.relative_to(start).with_suffix("").parts
            found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


@cache
def imports_of(module: str) -> frozenset[str]:
    """What `module` imports anywhere in it, by dotted names; of ours, modules."""
    found: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inside = {f"{node.module}.{name.name}" for name in node.names}
            found |= inside & modules().keys() or {node.module}
    return frozenset(found - {module})


def product() -> Iterator[str]:
    return (name for name in modules() if name.startswith("octad."))


def room_of(module: str) -> str:
    """The package that `module` is in, or is."""
    return module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
