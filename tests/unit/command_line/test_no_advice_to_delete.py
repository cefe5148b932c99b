"""No message has anyone delete data that is intact: what cannot be used is moved aside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("sharding", "client", "coordinator", "storage_node", "chaos", "deploy")
# What a user asks for by these words; no one is told to.
ASKED_FOR = {
    "--fresh",  # The option's own name,
    "delete what DIR holds first",  # and what it does.
}
DELETES = re.compile(
    r"or start over|--fresh|rm -r|empty (its|this|the|your) (disk|directory)"
    r"|(remove|delete|erase|wipe) (it|its|this|the|your|what)\b"
    r"[^;]*(director|disk|data|journal|DIR)",
    re.IGNORECASE,
)


def messages(file: Path) -> Iterator[tuple[str, int, str]]:
    """Every text in the code that is no docstring; what stands in braces as `{}`."""
    tree = ast.parse(file.read_text())
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for value in node.values
    }
    for node in ast.walk(tree):
        if id(node) in documents | inner:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield file.name, node.lineno, node.value
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            yield file.name, node.lineno, "".join(map(str, parts))


def test_no_message_proposes_to_delete_what_is_intact() -> None:
    said = [
        (name, line, text)
        for part in PARTS
        for file in (ROOT / part).rglob("*.py")
        for name, line, text in messages(file)
        if DELETES.search(text) and text not in ASKED_FOR
    ]
    assert said == []
