"""The `octad` command: finds its verbs by entry point, runs one, turns errors into one line.

Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted, 141 when no one reads the output
any more (`octad … | head`); a verb may document others.
Starting fast is a promise (`octad --help` in well under 150 ms), so a verb's module is loaded only
when that verb is run or the list of verbs is shown, and loads what it needs to run only then.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import NoReturn, cast

from octad.client.runtime.command import Command, CommandError

GROUP = "octad.commands"
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # As a shell shows a command that SIGPIPE ended.
# Which extra of the distribution brings the packages that a verb needs.
_EXTRA_DEFAULT = "server"
_EXTRAS = {"octad.sharding.study": "study"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code; never raises what a user could have caused."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words, {point.name: point for point in entry_points(group=GROUP)})
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # For the last flush.
        return EXIT_UNREAD
    except CommandError as error:
        print(f"octad: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(words: list[str], verbs: Mapping[str, EntryPoint]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        print(_help(verbs))
        return 0 if words else EXIT_USAGE
    if verb == "--version":
        print(f"octad {version('octad')}")
        return 0
    if verb not in verbs:
        kind = "option" if verb.startswith("-") else "verb"
        raise _misunderstood(
            f"unknown {kind} {verb!r}", verb, [*verbs, "--help", "--version"], "octad"
        )
    return _run_verb(verbs[verb], words[1:])


def _run_verb(point: EntryPoint, words: list[str]) -> int:
    try:
        command = _load(point)
        parser = _Parser(prog=f"octad {point.name}", description=command.HELP)
        command.add_arguments(parser)
        parser.refuse_unknown_options(words)
        return command.run(parser.parse_args(words))
    except ModuleNotFoundError as error:
        raise _package_missing(point, error) from error


def _help(verbs: Mapping[str, EntryPoint]) -> str:
    width = max((len(name) for name in verbs), default=0)
    lines = [f"  {name:<{width}}  {_help_line(verbs[name])}" for name in sorted(verbs)]
    return "\n".join(
        [
            "usage: octad VERB [OPTION...]",
            "",
            "Self-hosted, sharded, replicated S3 object storage and coordination.",
            "",
            *lines,
            "",
            "octad VERB --help shows a verb's options; octad --version the version.",
        ]
    )


def _help_line(point: EntryPoint) -> str:
    try:
        return _load(point).HELP
    except ModuleNotFoundError as error:
        return f"({_package_missing(point, error)})"


def _load(point: EntryPoint) -> Command:
    return cast(Command, point.load())


def _package_missing(point: EntryPoint, error: ModuleNotFoundError) -> CommandError:
    """A verb is installed with octad, but what it needs comes with an extra."""
    missing = error.name or str(error)
    if missing.partition(".")[0] == "octad":
        return CommandError(f"octad lacks its own part {missing}", "run: pip install octad")
    extra = next((e for prefix, e in _EXTRAS.items() if point.value.startswith(prefix)), None)
    return CommandError(
        f"octad {point.name} needs the package {missing.partition('.')[0]}",
        f"run: pip install 'octad[{extra or _EXTRA_DEFAULT}]'",
    )


def _misunderstood(what: str, word: str, known: Iterable[str], prog: str) -> CommandError:
    closest = difflib.get_close_matches(word.partition("=")[0], list(known), n=1)
    hint = f"did you mean {closest[0]}? " if closest else ""
    return CommandError(what, f"{hint}see: {prog} --help", EXIT_USAGE)


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line, and an option is never guessed from its beginning."""

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Before anything else: argparse would go on and complain about what follows them."""
        known = _option_strings(self)
        for word in words:
            if word == "--":
                return
            if word.startswith("--") and word.partition("=")[0] not in known:
                what = f"{self.prog}: unknown option {word!r}"
                raise _misunderstood(what, word, known, self.prog)

    def error(self, message: str) -> NoReturn:
        what = message.replace("unrecognized arguments:", "unknown argument")
        raise CommandError(f"{self.prog}: {what}", f"see: {self.prog} --help", EXIT_USAGE)


def _option_strings(parser: argparse.ArgumentParser) -> list[str]:
    found: list[str] = []
    for action in parser._actions:  # argparse has no public way to ask for them.
        found.extend(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for sub_parser in action.choices.values():
                found.extend(_option_strings(sub_parser))
    return found
