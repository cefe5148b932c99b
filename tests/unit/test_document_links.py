"""The documents point at things that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
FILE_NAME = re.compile(r"`([a-z0-9_]+(?:/[a-z0-9_]+)+\.py)`")
PARTS = ("sharding", "client", "coordinator", "storage_node")
NAMES_START_AT = (
    REPOSITORY,
    *(REPOSITORY / part / "octad" for part in PARTS),  # as in `coordinator/schema/records.py`
    REPOSITORY / "storage_node/octad/storage_node",
)
DOCUMENTS = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_file_names_in_a_document_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    names = [
        name
        for name in FILE_NAME.findall(text)
        if not any((start / name).exists() for start in NAMES_START_AT)
    ]
    assert links + names == []
