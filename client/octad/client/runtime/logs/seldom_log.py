"""A log line about what may happen a thousand times a second: once a minute at most."""

from __future__ import annotations

import logging
import time
from typing import Final

PAUSE_S: Final = 60.0


class SeldomLog:
    """One kind of line; the next one says how often it was left out."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said_at = float("-inf")
        self._left_out = 0

    def warning(self, text: str, *values: object) -> None:
        """Like the logger's `warning`, but at most once a minute."""
        now = time.monotonic()
        if now - self._said_at < PAUSE_S:
            self._left_out += 1
            return
        self._said_at = now
        if self._left_out:
            text += f" ({self._left_out} more such lines were left out)"
            self._left_out = 0
        self._logger.warning(text, *values)
