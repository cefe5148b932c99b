"""How many log lines of one kind a minute may have; the rest is counted and reported in one line.

    10 lines of a kind within a minute ─► held for a minute: counted ─► "n more lines …" ─► free

So no minute, wherever it begins, has more than `LINES_MAX` lines of a kind and one that
reports the rest, and a single event is never held back. A logger whose texts differ every time has
at most `KINDS_MAX` kinds; further ones share one, so neither the log nor memory grows with
strangers' input, and one logger cannot hold back the lines of another. Callers pass the time (s).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LINES_MAX: Final = 10
MINUTE_S: Final = 60.0
KINDS_MAX: Final = 64  # Per logger and minute; ours have fewer templates.
OTHER_KINDS: Final = "(many kinds)"


class LineKind(NamedTuple):
    """`text` is what all lines of the kind have in common: their template, not what fills it."""

    logger: str
    level: int
    text: str


@dataclass(slots=True)
class _Recent:
    lines: deque[float] = field(default_factory=lambda: deque(maxlen=LINES_MAX))  # When.
    held_until: float = -math.inf
    left_out: int = 0

    def is_idle(self, now: float) -> bool:
        quiet = not self.lines or now - self.lines[-1] >= MINUTE_S
        return quiet and now >= self.held_until and not self.left_out


class LineLimit:
    """`next_due` is when `due` next returns something; infinity while nothing is held."""

    def __init__(self) -> None:
        self.next_due = math.inf
        self._loggers: dict[str, dict[LineKind, _Recent]] = {}

    def admits(self, kind: LineKind, now: float) -> bool:
        """Whether this line may be written; counts it either way."""
        recent = self._recent(kind, now)
        if now < recent.held_until:
            recent.left_out += 1
            return False
        lines = recent.lines
        lines.append(now)
        if len(lines) == LINES_MAX and now - lines[0] < MINUTE_S:
            lines.clear()
            recent.held_until = now + MINUTE_S
            self.next_due = min(self.next_due, recent.held_until)
        return True

    def due(self, now: float) -> list[tuple[LineKind, int]]:
        """How many lines were left out of each kind whose minute is over; forgets idle kinds.

        Infinity asks for all that were left out so far.
        """
        told = []
        self.next_due = math.inf
        for kinds in self._loggers.values():
            for kind, recent in kinds.items():
                if now < recent.held_until:
                    self.next_due = min(self.next_due, recent.held_until)
                elif recent.left_out:
                    told.append((kind, recent.left_out))
                    recent.left_out = 0
            _forget_idle(kinds, now)
        return told

    def _recent(self, kind: LineKind, now: float) -> _Recent:
        kinds = self._loggers.setdefault(kind.logger, {})
        if kind not in kinds and len(kinds) >= KINDS_MAX:
            others = kind._replace(text=OTHER_KINDS)
            if others in kinds and now < kinds[others].held_until:
                return kinds[others]  # At once: this is a flood.
            _forget_idle(kinds, now)
            if len(kinds) >= KINDS_MAX:
                kind = others
        return kinds.setdefault(kind, _Recent())


def _forget_idle(kinds: dict[LineKind, _Recent], now: float) -> None:
    for kind in [kind for kind, recent in kinds.items() if recent.is_idle(now)]:
        del kinds[kind]
