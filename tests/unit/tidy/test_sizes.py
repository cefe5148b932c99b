"""What a reader can take in: folders, files, functions and classes have a largest size."""

from __future__ import annotations

import ast
from collections import Counter

from tests.unit.tidy.code_base import REPOSITORY, modules, product, tree_of

FILES_MAX = 15  # A folder's, `__init__.py` not counted.
LINES_MAX = 500  # A file's.
FUNCTION_LINES_MAX = 60
METHODS_MAX = 25  # A class's of the product.

# One thing each, with many small methods; a number here only goes down.
WITH_MORE_METHODS = {
    "ClusterObjects": 30,  # Implements `ObjectStore`, the one port of the S3 layer.
    "HotConnection": 29,
    "Journal": 31,
    "Primary": 29,
    "ShardHost": 39,  # The port of a node's shards: each method finds the replica and performs.
    "ShardReplica": 47,  # Routes each event to the part that it concerns.
    "ShardService": 31,
    "TlsTransport": 26,  # Implements `asyncio.Transport` and `asyncio.BufferedProtocol`.
}


def test_no_folder_has_more_files_than_one_remembers() -> None:
    files = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    crowded = {str(folder.relative_to(REPOSITORY)): n for folder, n in files.items()}
    assert {folder: n for folder, n in crowded.items() if n > FILES_MAX} == {}


def test_no_file_is_longer_than_one_reads() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in modules().values()}
    assert {str(path): n for path, n in lines.items() if n > LINES_MAX} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    functions = [
        (module, node)
        for module in modules()
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = {
        f"{module}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module, node in functions
    }
    assert {name: n for name, n in lines.items() if n > FUNCTION_LINES_MAX} == {}


def test_no_class_has_more_methods_than_one_keeps_apart() -> None:
    classes = [
        node
        for module in product()
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ClassDef)
    ]
    methods = [
        (each.name, sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in each.body))
        for each in classes
    ]
    assert {name: n for name, n in methods if n > METHODS_MAX} == WITH_MORE_METHODS
