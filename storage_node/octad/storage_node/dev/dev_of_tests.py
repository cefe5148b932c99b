"""`octad dev` as tests start it: it ends with the process that started it, however that ends.

python -m octad.storage_node.dev.dev_of_tests PARENT_PID ARGUMENT...
"""

from __future__ import annotations

import sys

from octad.client.cli.command_line import main
from octad.storage_node.cli.parent_death import kill_with_parent


def run(parent: int, arguments: list[str]) -> int:
    """The exit code of `octad dev`; 0 where the parent is gone already."""
    try:
        kill_with_parent(parent)
    except ProcessLookupError:
        return 0
    return main(["dev", *arguments])


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
