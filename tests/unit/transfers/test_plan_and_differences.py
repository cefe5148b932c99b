"""What is carried where, what is deleted, and what is refused: before anything is done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from octad.client.cli.access.places import S3Place
from octad.client.cli.transfers.differences import (
    Differences,
    differences,
    newer_or_of_another_size,
    too_much,
)
from octad.client.cli.transfers.items import Item
from octad.client.cli.transfers.patterns import Selection
from octad.client.cli.transfers.plan import as_folder, below, direction, plan_of
from octad.client.cli.transfers.progress import Progress

ALL = Selection.of([], [])


def items(*names: str, size: int = 1, modified_s: float = 100.0) -> list[Item]:
    return [Item(name, size, modified_s) for name in names]


def compared(
    source: Iterable[Item],
    target: Iterable[Item],
    *,
    selection: Selection = ALL,
    delete: bool = True,
) -> Differences:
    return differences(source, target, selection, newer_or_of_another_size, delete=delete)


def test_a_prefix_is_a_folder_and_not_the_beginning_of_another_one() -> None:
    assert as_folder(S3Place("b", "logs")) == S3Place("b", "logs/")
    assert as_folder(S3Place("b", "")) == S3Place("b", "")
    assert below(as_folder(S3Place("b", "logs")), "a") == S3Place("b", "logs/a")
    assert below(Path("x"), "a/b") == Path("x/a/b")


def test_the_direction_is_the_word_for_it() -> None:
    bucket, file = S3Place("b", ""), Path("f")
    assert direction(file, bucket) == "upload"
    assert direction(bucket, file) == "download"
    assert direction(bucket, bucket) == "copy"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/", "a\0b"])
def test_a_key_never_leaves_the_folder_that_it_is_downloaded_to(key: str) -> None:
    plan = plan_of(S3Place("b", ""), Path("out"), items(key, "good"))
    assert [transfer.target for transfer in plan.transfers] == [Path("out/good")]
    assert [failure.name for failure in plan.failures] == [f"s3://b/{key}"]


def test_what_stands_for_a_folder_is_no_file() -> None:
    plan = plan_of(S3Place("b", "p/"), Path("out"), items("", "d/", size=0))
    assert (plan.transfers, plan.failures) == ([], [])


def test_a_name_that_no_key_can_have_is_a_failure_of_that_one() -> None:
    plan = plan_of(Path("in"), S3Place("b", ""), items("a\udcff", "good"))
    assert [transfer.target for transfer in plan.transfers] == [S3Place("b", "good")]
    assert "UTF-8" in plan.failures[0].reason


def test_only_what_is_new_newer_or_of_another_size_is_carried() -> None:
    source = [
        *items("same", "new"),
        *items("larger", size=2),
        *items("newer", modified_s=100.0021),
        *items("older", "rounded", modified_s=99.0),
    ]
    target = [*items("same", "larger", "newer", "older"), *items("rounded", modified_s=99.0004)]
    found = compared(source, target)
    assert [item.name for item in found.carried] == ["new", "larger", "newer"]


def test_only_with_delete_is_anything_deleted_and_nothing_that_is_excluded() -> None:
    source, target = items("a"), items("a", "b", "c.tmp")
    assert compared(source, target, delete=False).deleted == []
    assert compared(source, target).deleted == ["b", "c.tmp"]
    kept = Selection.of([], ["*.tmp"])
    assert compared(source, target, selection=kept).deleted == ["b"]


def test_more_than_half_is_too_much_and_so_is_all_from_an_empty_source() -> None:
    ten = items(*"abcdefghij")
    assert too_much(compared(ten[:5], ten)) == ""
    assert too_much(compared(ten[:4], ten)) == "6 of 10 would be deleted"
    assert too_much(compared([], ten)) == "the source is empty, so all 10 would be deleted"
    assert too_much(compared([], [])) == ""
    assert too_much(compared([], ten, delete=False)) == ""
    one = items("only")
    assert too_much(compared([], one)) == "the source is empty, so all 1 would be deleted"


def test_progress_tells_objects_and_bytes_and_a_time_only_once_it_is_known() -> None:
    progress = Progress("upload", 10, 4096)
    progress.done, progress.done_bytes = 5, 1024
    early = progress.line(1.0)
    assert "upload 5 of 10, 1.0 KiB of 4.0 KiB, 1.0 KiB/s, unknown left" in early
    assert progress.line(10.0).endswith("102 B/s, 30 s left")  # The bytes are slower.
    progress.done, progress.done_bytes = 1, 4096
    assert progress.line(10.0).endswith("90 s left") or "2 min left" in progress.line(10.0)
