"""`docs/reference/command-line.md` names the verbs, options and defaults that there are."""

from __future__ import annotations

import argparse
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from octad.client.cli.command_line import GROUP, _option_strings

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "command-line.md"
SECTION = re.compile(r"^## octad (\w+)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS: dict[str, str] = dict(SECTION.findall(DOCUMENT.read_text()))
POINTS = {point.name: point for point in entry_points(group=GROUP)}


def test_the_verbs_are_all_there() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text().partition("\n## ")[0], re.MULTILINE)
    assert listed == sorted(POINTS)


@pytest.mark.parametrize("verb", SECTIONS)
def test_the_options_of_a_verb_are_all_there(verb: str) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    POINTS[verb].load().add_arguments(parser)
    options = set(_option_strings(parser)) - {"-h", "--help"}
    usage = SECTIONS[verb].partition("```\n\n")[0]
    documented = set(re.findall(r"--[a-z0-9-]+", usage))
    if "…" in usage:  # It says itself that there are more.
        assert documented <= options
    else:
        assert documented == options
