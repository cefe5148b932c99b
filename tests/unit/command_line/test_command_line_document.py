"""`docs/reference/command-line.md` names the verbs, options and defaults that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from octad.client.cli.verb_parser import option_strings, parser_of
from octad.client.cli.verbs import VERBS

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "command-line.md"
SECTION = re.compile(r"^## octad (\w+)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS: dict[str, str] = dict(SECTION.findall(DOCUMENT.read_text()))


def test_the_verbs_are_all_there_and_said_to_do_what_the_command_says() -> None:
    table = DOCUMENT.read_text().partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert listed == [(verb, explained) for verb, (_, explained) in sorted(VERBS.items())]


@pytest.mark.parametrize("verb", SECTIONS)
def test_the_options_of_a_verb_are_all_there(verb: str) -> None:
    _, parser = parser_of(verb, *VERBS[verb])
    options = set(option_strings(parser)) - {"-h", "--help"}
    usage = SECTIONS[verb].partition("```\n\n")[0]
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", usage))
    if "…" in usage:  # It says itself that there are more.
        assert documented <= options
    else:
        assert documented == options
