"""A user's mistake in one line: what is wrong, and how to correct it."""

from __future__ import annotations


class BadInput(ValueError):
    """Ends a command of the study before anything is written."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix
