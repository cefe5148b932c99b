"""Nodes that run an octad which knows less than the others: a lower format level."""

from __future__ import annotations

from pathlib import Path

import pytest

# Python runs it at the start of every process; the nodes that the file names are of before.
_AT_START = """
import sys
from pathlib import Path

for name in Path(__file__).with_name("older").read_text().split():
    if any(word.endswith(f"/{{name}}") for word in sys.orig_argv):
        from octad.storage_node.operations import registry

        registry.FORMAT_LEVEL = {level}
"""


class OlderNodes:
    """Of the clusters that this process starts. `directory` is a place for its files."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
        self._names = directory / "older"
        (directory / "sitecustomize.py").write_text(_AT_START.format(level=level))
        monkeypatch.setenv("PYTHONPATH", str(directory))
        self.are()

    def are(self, *names: str) -> None:
        """From their next start on: these nodes, and no others."""
        self._names.write_text(" ".join(names))
