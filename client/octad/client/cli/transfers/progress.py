"""How far a command is: a line on a terminal that is drawn again and again, elsewhere nothing."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from typing import Final, TextIO

from octad.client.cli.format_units import bar, shown_bytes, shown_time

_DRAWN_EACH_S: Final = 0.2
_RATE_OF_S: Final = 2.0  # Before that, how long it takes cannot be said.


class Progress:
    """Counts what is done of what was counted before; draws it while it is entered."""

    def __init__(self, word: str, count: int, size_bytes: int) -> None:
        self.word = word
        self.count = count
        self.size_bytes = size_bytes
        self.done = 0
        self.done_bytes = 0
        self._began_s = time.monotonic()
        self._out: TextIO | None = sys.stderr if sys.stderr.isatty() else None
        self._drawing: asyncio.Task[None] | None = None

    def add_bytes(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began_s

    async def __aenter__(self) -> Progress:
        if self._out is not None:
            self._drawing = asyncio.create_task(self._draw(self._out))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._drawing is not None and self._out is not None:
            self._drawing.cancel()
            self._out.write("\r\x1b[K")
            self._out.flush()

    async def _draw(self, out: TextIO) -> None:
        while True:
            width = shutil.get_terminal_size().columns
            out.write(f"\r\x1b[K{self.line(self.seconds)[: width - 1]}")
            out.flush()
            await asyncio.sleep(_DRAWN_EACH_S)

    def line(self, seconds: float) -> str:
        """Both numbers, for neither alone says how far it is: many small files, or one large."""
        share_bytes = self.done_bytes / self.size_bytes if self.size_bytes else 1.0
        share = min(share_bytes, 1.0) if self.size_bytes else self.done / max(self.count, 1)
        rate = self.done_bytes / max(seconds, 0.001)
        slower = max(min(share_bytes, self.done / max(self.count, 1)), 1e-9)
        if self.count == 1:
            slower = max(share_bytes, 1e-9)
        left = None if seconds < _RATE_OF_S else seconds / slower - seconds
        return (
            f"{bar(share)} {self.word} {self.done} of {self.count},"
            f" {shown_bytes(self.done_bytes)} of {shown_bytes(self.size_bytes)},"
            f" {shown_bytes(int(rate))}/s, {shown_time(left)} left"
        )
