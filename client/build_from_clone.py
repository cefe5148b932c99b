"""Brings `sharding/` into the wheel of a clone, where it lies beside this folder.

A source distribution has it in its place already.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildFromClone(BuildHookInterface):  # type: ignore[misc]
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        beside = Path(self.root).parent / "sharding" / "octad" / "sharding"
        if version != "editable" and beside.is_dir():
            build_data["force_include"][str(beside)] = "octad/sharding"
