"""Commands as they are printed for people: pasted into a shell, each means what it says."""

from __future__ import annotations

import shlex
from pathlib import Path


def shown_command(*words: str | Path) -> str:
    """The words as one line of a shell: `octad status --data '/srv/my data'`."""
    return shlex.join(map(str, words))


def shown_path(path: str | Path) -> str:
    """`path` as a word of a command that is written around it."""
    return shlex.quote(str(path))
