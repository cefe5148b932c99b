"""What people write for places and patterns, and how names are shown to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from octad.client.cli.access.places import S3Place, place_of, s3_place_of, shown, shown_word
from octad.client.cli.transfers.patterns import Selection, fixed_part, matcher_of
from octad.client.runtime.command import CommandError


def test_a_place_is_in_a_bucket_or_on_this_machine() -> None:
    assert place_of("s3://logs/a/b c") == S3Place("logs", "a/b c")
    assert place_of("s3://logs") == place_of("s3://logs/") == S3Place("logs", "")
    assert place_of("logs/a") == Path("logs/a")
    assert str(S3Place("logs", "a")) == "s3://logs/a"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("s3:/logs/a", "did you mean s3://logs/a?"),
        ("s3:logs/a b", "did you mean 's3://logs/a b'?"),
        ("S3://logs", "did you mean s3://logs?"),
        ("s3://", "see: octad ls"),
        ("s3://*/a", "see: octad ls"),
        ("", "name a file, a folder or s3://BUCKET/KEY"),
    ],
)
def test_what_is_almost_a_place_is_no_file_but_a_mistake_with_what_was_meant(
    word: str, hint: str
) -> None:
    with pytest.raises(CommandError) as refused:
        place_of(word)
    assert (refused.value.fix, refused.value.exit_code) == (hint, 2)


def test_a_key_cannot_move_the_cursor_of_a_terminal() -> None:
    assert shown(S3Place("b", "a\n\x1b[2Jü\udcff")) == "s3://b/a\\n\\x1b[2Jü\\udcff"
    assert shown_word(S3Place("b", "it's")) == "'s3://b/it'\"'\"'s'"


def test_a_bucket_verb_takes_no_path() -> None:
    with pytest.raises(CommandError, match="did you mean s3://logs/a"):
        s3_place_of("logs/a")


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a/*.gz", ["a/b.gz", "a/.gz"], ["a/b/c.gz", "a/b.gzx", "b.gz"]),
        ("a/**.gz", ["a/b.gz", "a/b/c.gz"], ["b/a.gz"]),
        ("?[0-9]", ["a1"], ["a", "/1", "ab"]),
        ("[!a-c]x", ["dx"], ["ax", "cx"]),
        ("a[.+]b", ["a.b", "a+b"], ["axb"]),
        ("a[", ["a["], ["a"]),
        ("a\n*", ["a\nb"], ["ab"]),
    ],
)
def test_patterns_match_whole_names(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = matcher_of(pattern)
    assert [name for name in (*matching, *others) if matches(name)] == matching
    assert all(name.startswith(fixed_part(pattern)) for name in matching)


def test_a_pattern_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(CommandError, match="is no pattern"):
        matcher_of("[z-a]")


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ([], [], ["a.log", "d/b.log", "d/c.txt"]),
        ([], ["*.log"], ["d/c.txt"]),
        ([], ["d/*"], ["a.log"]),
        (["*.log"], [], ["a.log", "d/b.log"]),
        (["d/b.log"], ["*"], ["d/b.log"]),
        (["a.log"], ["*.log"], ["a.log", "d/c.txt"]),
    ],
)
def test_what_is_included_is_taken_whatever_excludes_it(
    include: list[str], exclude: list[str], taken: list[str]
) -> None:
    selection = Selection.of(include, exclude)
    assert [name for name in ("a.log", "d/b.log", "d/c.txt") if selection.takes(name)] == taken
