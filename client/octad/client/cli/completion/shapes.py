"""What can be typed behind `octad`, read from the parsers themselves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from octad.client.cli.verb_parser import parser_of
from octad.client.cli.verbs import VERBS


class Choice(NamedTuple):
    """A word that may stand there, and what it means. `choices`: of the word behind an option."""

    word: str
    explained: str
    choices: tuple[str, ...] = ()


class Shape(NamedTuple):
    """A verb or a sub-verb: what may follow it."""

    verb: str
    explained: str
    options: Sequence[Choice]
    words: Sequence[str]  # Of an argument that is one of a few.
    verbs: Sequence[Shape]


def shapes() -> list[Shape]:
    """Of all verbs. A verb whose parser needs a package that is missing has its name alone."""
    return [_shape_of_verb(verb, *entry) for verb, entry in VERBS.items()]


def _shape_of_verb(verb: str, module: str, explained: str) -> Shape:
    try:
        _, parser = parser_of(verb, module, explained)
    except ModuleNotFoundError:
        return Shape(verb, explained, (), (), ())
    return _shape(verb, explained, parser)


def _shape(verb: str, explained: str, parser: argparse.ArgumentParser) -> Shape:
    options: list[Choice] = []
    words: list[str] = []
    verbs: list[Shape] = []
    for action in parser._actions:  # argparse has no public way to ask for them.
        choices = tuple(map(str, action.choices or ()))
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            verbs += [
                _shape(name, helps.get(name, ""), inner) for name, inner in action.choices.items()
            ]
        elif action.option_strings:
            text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
            text = text.replace("%(default)s", str(action.default)).replace("%%", "%")
            options += [Choice(word, text, choices) for word in action.option_strings]
        else:
            words += choices
    return Shape(verb, explained, options, words, verbs)
