"""Completion of `octad` in shells: what the scripts offer is what the parsers take."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from octad.client.cli.command_line import main
from octad.client.cli.completion.scripts import bash_script, fish_script, zsh_script
from octad.client.cli.completion.shapes import Shape, shapes
from octad.client.cli.verbs import VERBS

SHAPES = shapes()


def completed(*typed: str) -> list[str]:
    """What bash offers once this was typed, the last word up to where the cursor is."""
    script = (
        f"{bash_script(SHAPES)}\n"
        f"COMP_WORDS=({' '.join(repr(word) for word in typed)}) COMP_CWORD={len(typed) - 1}\n"
        '_octad; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-u", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def every_shape(of: list[Shape] = SHAPES) -> Iterator[Shape]:
    for shape in of:
        yield shape
        yield from every_shape(list(shape.verbs))


def test_bash_completes_verbs_sub_verbs_their_options_and_words() -> None:
    assert completed("octad", "sy") == ["sync"]
    assert set(completed("octad", "")) == {*VERBS, "--help", "--version"}
    assert completed("octad", "bucket", "cr") == ["create"]
    assert completed("octad", "bucket", "create", "--st") == ["--strict"]
    assert completed("octad", "sync", "in", "s3://b", "--ex") == ["--exclude"]
    assert completed("octad", "completion", "z") == ["zsh"]
    assert completed("octad", "sync", "--no-such") == []


def test_each_script_has_every_verb_and_every_option() -> None:
    for make in (bash_script, zsh_script, fish_script):
        script = make(SHAPES)
        for shape in every_shape():
            assert re.search(rf"\b{shape.verb}\b", script), shape.verb
            for option in shape.options:
                assert re.search(rf"-[sl]? ?{option.word.lstrip('-')}\b", script), option


def test_quotes_in_what_is_explained_do_not_end_a_script() -> None:
    odd = [Shape("odd", "it's a\\b", [], [], [])]
    assert fish_script(odd).endswith(r"-a odd -d 'it\'s a\\b'" + "\n")
    assert "'odd:it'\"'\"'s a\\b'" in zsh_script(odd)


def test_the_command_prints_the_script_of_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    assert capsys.readouterr().out == fish_script(SHAPES)
