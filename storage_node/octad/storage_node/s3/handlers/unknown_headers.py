"""`x-amz-*` headers that no one here knows: served, counted, and named in the log a few times.

Whoever sends them has signed them with a key of ours. Still no one decides how long the log gets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

NAMES_LOGGED_MAX: Final = 100  # As long as the process lives.
_SHOWN_CHARACTERS_MAX: Final = 80

_logger = logging.getLogger("octad.front_door")


class UnknownHeaders:
    """`count` is for metrics; it knows no names."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[str] = set()

    def add(self, names: Sequence[str]) -> None:
        """A request that is served came with these."""
        self.count += len(names)
        for name in names:
            shown = name[:_SHOWN_CHARACTERS_MAX]
            if shown not in self._logged and len(self._logged) < NAMES_LOGGED_MAX:
                self._logged.add(shown)
                _logger.info("requests have the header %s, which octad ignores", shown)
