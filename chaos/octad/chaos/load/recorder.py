"""Writes the history of a run while it happens, and keeps it for the checks afterwards."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import TracebackType

from octad.chaos.load.history import (
    ANY,
    ClientRequest,
    Invoked,
    Kind,
    Line,
    Outcome,
    Returned,
    client_requests,
    encode_line,
)


class Recorder:
    """A context: the file is complete once it is left. Times are seconds since it was made."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lines: list[Line] = []
        self._numbers = itertools.count(1)
        self._started = time.monotonic()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def now(self) -> float:
        return time.monotonic() - self._started

    def invoke(
        self,
        client: int,
        node: int,
        kind: Kind,
        keys: tuple[str, ...],
        value: str | None = None,
        if_match: str | None = ANY,
    ) -> Invoked:
        """Just before the request is sent."""
        number = next(self._numbers)
        line = Invoked(number, self.now(), client, node, kind, keys, value, if_match)
        self._write(line)
        return line

    def answer(
        self,
        asked: Invoked,
        outcome: Outcome,
        status: int = 0,
        seen: dict[str, str | None] | None = None,
        at: float | None = None,
        *,
        error: str = "",
    ) -> None:
        """The answer or its error has arrived, now or at `at`."""
        at = self.now() if at is None else at
        self._write(Returned(asked.id, at, outcome, status, seen or {}, error))

    def history(self) -> list[ClientRequest]:
        return client_requests(self._lines)

    def _write(self, line: Line) -> None:
        self._lines.append(line)
        self._file.write(encode_line(line))
