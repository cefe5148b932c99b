"""A verb of the `octad` command: a module named by an entry point in `octad.commands`.

The module has `HELP` (one line), `add_arguments(parser)` and `run(arguments) -> exit code`. It must
be cheap to import, since `octad --help` loads them all: what it needs to *run*, it imports inside
`run`.
"""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """A verb's module."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


class CommandError(Exception):
    """Ends the command with one line on stderr: what is wrong, and the command that fixes it."""

    def __init__(self, what: str, fix: str, exit_code: int = 1) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix
        self.exit_code = exit_code
