"""The pytest plugin is loaded in every test run of those who have octad: it must cost nothing."""

from __future__ import annotations

import subprocess
import sys


def test_the_plugin_loads_nothing_before_a_test_asks_for_it() -> None:
    script = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import octad.storage_node.dev.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    parts = ("octad", "octad.storage_node", "octad.storage_node.dev")
    ours = [name for name in done.stdout.split() if name.startswith("octad")]
    assert ours == [*parts, "octad.storage_node.dev.pytest_plugin"]
    assert "asyncio" not in done.stdout
