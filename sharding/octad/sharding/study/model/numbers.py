"""Numbers as a user writes them on the command line, within the bounds that make sense."""

from __future__ import annotations

import math
from pathlib import Path

from octad.sharding.study.rivals.bad_input import BadInput


def number(text: str, option: str, low: float, high: float) -> float:
    """`text` as a number between `low` and `high`, both included."""
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{option} {text!r} is not a number", "give a number such as 3") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise BadInput(
            f"{option} {text} is out of range", f"give a number from {low:g} to {high:g}"
        )
    return value


def whole(text: str, option: str, low: int, high: int) -> int:
    """`text` as a whole number; `1e5` is one."""
    value = number(text, option, low, high)
    if value != int(value):
        raise BadInput(f"{option} {text} is not a whole number", f"give one from {low} to {high}")
    return int(value)


def output_directory(text: str | None) -> Path | None:
    """The output directory, checked before the work begins; it need not exist yet."""
    if text is None:
        return None
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise BadInput(f"--output {text} is a file", "name a directory, or one to make")
    return path
