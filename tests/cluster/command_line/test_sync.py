"""`octad sync`: carries what differs, and deletes only what was meant to be deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.cluster.command_line.conftest import Octad

from octad import Bucket, Client

pytestmark = pytest.mark.cluster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "d").mkdir(parents=True)
    for name in ("a", "b", "c", "d/e"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    return folder


def keys(bucket: Bucket) -> list[str]:
    return [info.key for info in bucket.list()]


def carried(octad: Octad, *words: str | Path) -> dict[str, object]:
    ended = octad("sync", *words, "--json")
    assert (ended.code, ended.err) == (0, "")
    document: dict[str, object] = json.loads(ended.out)
    return document


def test_only_what_differs_is_carried_in_every_direction(
    octad: Octad, bucket: Bucket, client: Client, folder: Path, tmp_path: Path
) -> None:
    place = f"s3://{bucket.name}/p"
    assert carried(octad, "in", place)["objects"] == 4
    assert carried(octad, "in", place)["objects"] == 0
    (folder / "a").write_text("another size")
    (folder / "b").write_text("B")  # As large as before, but newer.
    future = bucket.head("p/b").modified.timestamp() + 5
    os.utime(folder / "b", (future, future))
    assert carried(octad, "in", place)["objects"] == 2
    assert bucket.get("p/a").data + bucket.get("p/b").data == b"another sizeB"
    assert carried(octad, place, "out")["objects"] == 4
    assert carried(octad, place, "out")["objects"] == 0
    assert (tmp_path / "out" / "d" / "e").read_text() == "d/e"
    other = client.create_bucket(f"{bucket.name}-copy")
    assert carried(octad, place, f"s3://{other.name}")["objects"] == 4
    assert carried(octad, place, f"s3://{other.name}")["objects"] == 0
    assert keys(other) == ["a", "b", "c", "d/e"]


def test_by_checksum_what_is_the_same_stays_however_old_it_looks(
    octad: Octad, bucket: Bucket, folder: Path
) -> None:
    place = f"s3://{bucket.name}"
    assert carried(octad, "in", place)["objects"] == 4
    future = bucket.head("a").modified.timestamp() + 5
    for name in ("a", "b"):
        os.utime(folder / name, (future, future))
    (folder / "c").write_text("C")
    os.utime(folder / "c", (1_700_000_000, 1_700_000_000))
    assert carried(octad, "in", place, "--checksum")["objects"] == 1
    assert bucket.get("c").data == b"C"


def test_without_delete_nothing_is_deleted_and_what_is_excluded_is_left_alone(
    octad: Octad, bucket: Bucket, folder: Path
) -> None:
    for key in ("old", "x.tmp"):
        bucket.put(key, b"1")
    place = f"s3://{bucket.name}"
    assert carried(octad, "in", place, "--exclude", "d/*")["objects"] == 3
    assert keys(bucket) == ["a", "b", "c", "old", "x.tmp"]
    document = carried(octad, "in", place, "--delete", "--exclude", "*.tmp")
    assert (document["objects"], document["deleted"]) == (1, 1)
    assert keys(bucket) == ["a", "b", "c", "d/e", "x.tmp"]


def test_a_folder_loses_what_is_not_in_the_bucket_and_folders_that_are_empty_then(
    octad: Octad, bucket: Bucket, folder: Path
) -> None:
    for key in ("a", "b", "c"):
        bucket.put(key, key.encode())
    assert carried(octad, f"s3://{bucket.name}", "in", "--delete")["deleted"] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "c"]


def test_an_empty_source_does_not_empty_its_target(
    octad: Octad, bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    place = f"s3://{bucket.name}"
    refused = octad("sync", place, "in", "--delete")
    assert refused.code == 1
    assert refused.err == (
        "octad: in: the source is empty, so all 4 would be deleted; nothing was done; look first:"
        f" octad sync --delete {place} in --dry-run; if that is meant, add --yes\n"
    )
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 4
    assert octad("sync", "in", place).code == 0
    (tmp_path / "empty").mkdir()
    assert octad("sync", "empty", place, "--delete").code == 1
    assert len(keys(bucket)) == 4
    missing = octad("sync", "not-mounted", place, "--delete", "--yes")
    assert (missing.code, len(keys(bucket))) == (4, 4)
    assert carried(octad, "empty", place, "--delete", "--yes")["deleted"] == 4


def test_more_than_half_is_deleted_only_with_yes_and_a_dry_run_is_dry(
    octad: Octad, bucket: Bucket, folder: Path
) -> None:
    place = f"s3://{bucket.name}"
    assert octad("sync", "in", place).code == 0
    for name in ("a", "b", "c"):
        (folder / name).unlink()
    dry = octad("sync", "in", place, "--delete", "--dry-run")
    assert dry.code == 0
    assert f"          delete  {place}/a" in dry.out.splitlines()
    refused = octad("sync", "in", place, "--delete")
    assert (refused.code, keys(bucket)) == (1, ["a", "b", "c", "d/e"])
    assert "3 of 4 would be deleted; nothing was done" in refused.err
    assert carried(octad, "in", place, "--delete", "--yes")["deleted"] == 3
    assert keys(bucket) == ["d/e"]


def test_what_could_not_be_read_is_not_taken_for_gone(
    octad: Octad, bucket: Bucket, folder: Path
) -> None:
    place = f"s3://{bucket.name}"
    assert octad("sync", "in", place).code == 0
    (folder / "a").unlink()
    (folder / "a").symlink_to("on-a-disk-that-is-not-mounted")
    ended = octad("sync", "in", place, "--delete")
    assert ended.code == 1
    assert "octad: in/a: No such file or directory\n" in ended.err
    assert "octad: in: not all of it could be read, so nothing is deleted\n" in ended.err
    assert keys(bucket) == ["a", "b", "c", "d/e"]


def test_places_that_lie_in_one_another_are_refused(octad: Octad, bucket: Bucket) -> None:
    bucket.put("a/b", b"1")
    for source, target in (("a", "a/copy"), ("a/copy", "a"), ("", "a")):
        refused = octad("sync", f"s3://{bucket.name}/{source}", f"s3://{bucket.name}/{target}")
        assert (refused.code, keys(bucket)) == (2, ["a/b"])
