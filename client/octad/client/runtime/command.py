"""How a verb of the `octad` command ends when something is wrong."""

from __future__ import annotations

TYPE_CHECKING = False  # As `typing` has it, which `octad --help` need not load.
if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_USAGE = 2


class CommandError(Exception):
    """Ends the command with one line on stderr: what is wrong, and the command that fixes it."""

    def __init__(self, what: str, fix: str, exit_code: int = 1) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix
        self.exit_code = exit_code


def misunderstood(what: str, word: str, known: Iterable[str], prog: str) -> CommandError:
    """`word` is none of those that are `known`; the closest of them is what was meant."""
    import difflib

    closest = difflib.get_close_matches(word.partition("=")[0], list(known), n=1)
    hint = f"did you mean {closest[0]}? " if closest else ""
    return CommandError(what, f"{hint}see: {prog} --help", EXIT_USAGE)
