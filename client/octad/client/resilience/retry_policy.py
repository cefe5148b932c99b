"""Whether and when a call is tried again.

Two bounds: one call is tried `TRIES_MAX` times, with full jitter between (a random time up to a
limit that doubles); and all calls of a client together have a budget. A retry takes one token, a
success gives a tenth of one back, so a cluster that is down sees no more than the calls themselves
and a handful of retries, however many callers there are.

Chance is passed in.
"""

from __future__ import annotations

from typing import Final

TRIES_MAX: Final = 5
BACK_OFF_S_FIRST: Final = 0.1
BACK_OFF_S_MAX: Final = 5.0
RETRY_AFTER_S_MAX: Final = 30.0  # More than that is not waited for, whatever a server says.
TOKENS_MAX: Final = 10.0
TOKENS_A_SUCCESS: Final = 0.1


def back_off_s(tries: int, chance: float, retry_after_s: float = 0.0) -> float:
    """How long to wait after `tries` tries; `chance` from 0 to 1.

    At least what the server asked for: callers are spread behind that.
    """
    limit = min(BACK_OFF_S_FIRST * 2.0 ** (tries - 1), BACK_OFF_S_MAX)
    return min(retry_after_s, RETRY_AFTER_S_MAX) + limit * chance


def retry_after_s(header: str) -> float:
    """What a `Retry-After` header asks for, in seconds; 0 where it makes no sense.

    Its other form, a date, is of a clock that may be wrong.
    """
    text = header.strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0


class RetryBudget:
    """Of all calls of one client."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens = TOKENS_MAX

    def take(self) -> bool:
        """Whether one more retry may be made."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def on_success(self) -> None:
        if self._tokens < TOKENS_MAX:
            self._tokens = min(TOKENS_MAX, self._tokens + TOKENS_A_SUCCESS)
