"""Patterns of names: `*` and `?` stop at a `/`, `**` does not, `[ab]` is one of several."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from octad.client.runtime.command import EXIT_USAGE, CommandError

_WILD: Final = re.compile(r"[*?\[]")

Matches = Callable[[str], bool]


def is_pattern(text: str) -> bool:
    return _WILD.search(text) is not None


def fixed_part(pattern: str) -> str:
    """What all names that match begin with."""
    found = _WILD.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def matcher_of(pattern: str) -> Matches:
    """Whether a whole name matches. Raises CommandError."""
    try:
        expression = re.compile(_expression_of(pattern), re.DOTALL)
    except re.error as error:
        raise CommandError(
            f"{pattern!r} is no pattern ({error.msg})", "write it as in '*.log'", EXIT_USAGE
        ) from error
    return lambda name: expression.fullmatch(name) is not None


class Selection(NamedTuple):
    """Which of the names below a folder are meant.

    What matches `included` is, whatever else; else what does not match `excluded`; with `included`
    alone nothing else is. A pattern without a `/` is compared with the last part of a name.
    """

    included: tuple[Matches, ...]
    excluded: tuple[Matches, ...]

    @classmethod
    def of(cls, included: Sequence[str], excluded: Sequence[str]) -> Selection:
        return cls(tuple(map(_of_any_depth, included)), tuple(map(_of_any_depth, excluded)))

    def takes(self, name: str) -> bool:
        if any(matches(name) for matches in self.included):
            return True
        if self.excluded:
            return not any(matches(name) for matches in self.excluded)
        return not self.included


def _of_any_depth(pattern: str) -> Matches:
    matches = matcher_of(pattern)
    if "/" in pattern:
        return matches
    return lambda name: matches(name.rpartition("/")[2])


def _expression_of(pattern: str) -> str:
    parts = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if pattern.startswith("*", at):
                at += 1
                parts.append(".*")
            else:
                parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[" and (end := pattern.find("]", at + 1)) != -1:
            inside = pattern[at:end]
            negated = inside.startswith(("!", "^"))
            inside = inside[1:] if negated else inside
            parts.append(f"[{'^' if negated else ''}{_class_of(inside)}]")
            at = end + 1
        else:
            parts.append(re.escape(char))
    return "".join(parts)


def _class_of(inside: str) -> str:
    """The inside of `[…]`: a range stays one, all else is itself."""
    return "".join(c if c == "-" else re.escape(c) for c in inside)
