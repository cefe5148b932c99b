"""What a verb is, and the parser of its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from octad.client.runtime.command import EXIT_USAGE, CommandError, misunderstood


class Command(Protocol):
    """A verb's module. What it needs to *run* it imports inside `run`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


class VerbParser(argparse.ArgumentParser):
    """argparse, but an error is one line, and an option is never guessed from its beginning."""

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Before anything else: argparse would go on and complain about what follows them."""
        known = option_strings(self)
        for word in words:
            if word == "--":
                return
            if word.startswith("--") and word.partition("=")[0] not in known:
                what = f"{self.prog}: unknown option {word!r}"
                raise misunderstood(what, word, known, self.prog)

    def error(self, message: str) -> NoReturn:
        what = message.replace("unrecognized arguments:", "unknown argument")
        raise CommandError(f"{self.prog}: {what}", f"see: {self.prog} --help", EXIT_USAGE)


def parser_of(verb: str, module: str, explained: str) -> tuple[Command, VerbParser]:
    """A verb, loaded, and the parser of what follows it."""
    command = cast(Command, import_module(module))
    parser = VerbParser(prog=f"octad {verb}", description=explained)
    command.add_arguments(parser)
    return command, parser


def option_strings(parser: argparse.ArgumentParser) -> list[str]:
    """All options of a parser and its sub-verbs."""
    found: list[str] = []
    for action in parser._actions:  # argparse has no public way to ask for them.
        found.extend(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for sub_parser in action.choices.values():
                found.extend(option_strings(sub_parser))
    return found
