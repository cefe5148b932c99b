"""Amounts as people read them; what is not known is said to be so."""

from __future__ import annotations

import re
from fractions import Fraction

from octad.client.runtime.command import EXIT_USAGE, CommandError

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?(?:([kmgtp])(i?b)?|b)?", re.ASCII)
_AGE = re.compile(r"(\d{1,9})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BAR_WIDTH = 24
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def counted(count: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shown_copies(count: int) -> str:
    """`1 copy`, `3 copies`."""
    return f"{count} {'copy' if count == 1 else 'copies'}"


def shown_bytes(size: int | None) -> str:
    """`size` for people; None is said as what it is."""
    if size is None:
        return "unknown"
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def parse_bytes(text: str) -> int | None:
    """The inverse, as people type it: `10GiB`, `500 MB`, `1.5T`, `0`; None if it is not a size.

    KB, MB… are powers of 1000, all others of 1024.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        return None
    number, letter, base = found.groups()
    power = 1 + "kmgtp".index(letter) if letter else 0
    return int(Fraction(number) * (1000 if base == "b" else 1024) ** power)


def bytes_of(text: str) -> int:
    """`parse_bytes`, for a verb. Raises CommandError."""
    size = parse_bytes(text)
    if size is None:
        raise CommandError(f"{text!r} is no size", "give it as in 500KB or 10MiB", EXIT_USAGE)
    return size


def seconds_of(text: str) -> int:
    """A time as people type it: `90s`, `30m`, `12h`, `7d`, `2w`. Raises CommandError."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise CommandError(f"{text!r} is no time", "give it as in 30m, 12h, 7d", EXIT_USAGE)
    return int(found[1]) * _UNIT_S[found[2]]


def shown_time(seconds: float | None) -> str:
    """A time left, for people: coarser the longer it is."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def bar(share: float) -> str:
    """A share from 0 to 1 as a picture."""
    filled = round(max(0.0, min(1.0, share)) * _BAR_WIDTH)
    return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}]"
