"""What a reader can take in: folders, files and functions have a largest size."""

from __future__ import annotations

import ast
from collections import Counter

from tests.unit.tidy.code_base import REPOSITORY, modules, tree_of

FILES_MAX = 15  # A folder's, `__init__.py` not counted.
LINES_MAX = 500  # A file's.
FUNCTION_LINES_MAX = 60


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
