"""A file that a docstring, a comment or a document names is there."""

from __future__ import annotations

import re

from tests.unit.tidy.code_base import REPOSITORY, modules

NAMED = re.compile(r"`([\w/]+\.py)`")
WARNED_OF = {"utils.py"}  # There is to be none.


def test_every_file_that_is_named_is_there() -> None:
    files = [f"/{path.relative_to(REPOSITORY)}" for path in modules().values()]
    documents = [*REPOSITORY.glob("CONTRIBUTING.md"), *(REPOSITORY / "docs").rglob("*.md")]
    gone = {
        f"{text.relative_to(REPOSITORY)}: {name}"
        for text in (*documents, *modules().values())
        for name in NAMED.findall(text.read_text())
        if name not in WARNED_OF and not any(file.endswith(f"/{name}") for file in files)
    }
    assert gone == set()
