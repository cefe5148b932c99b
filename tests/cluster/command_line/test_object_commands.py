"""`octad ls cat stat cp mv rm du find presign` on real nodes, as people type them."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest
from tests.cluster.command_line.conftest import Octad

from octad import Bucket

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are small, empty, large, and of names that are not easy."""
    folder = tmp_path / "in"
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"hello")
    (folder / "d" / "empty").write_bytes(b"")
    (folder / "d" / "e" / "it's ü\n").write_bytes(b"odd")
    (folder / "large").write_bytes(os.urandom(20 * MIB + 17))
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def keys(bucket: Bucket) -> list[str]:
    return [info.key for info in bucket.list()]


def test_a_folder_goes_up_and_comes_back_the_same(
    octad: Octad, bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    place = f"s3://{bucket.name}/p"
    up = octad("cp", "-r", "in", place)
    assert (up.code, up.err) == (0, "")
    first, last = up.out.splitlines()
    assert first == f"upload in -> {place}: 4 objects, 20.0 MiB"
    assert last.startswith("uploaded 4 objects, 20.0 MiB in ")
    assert keys(bucket) == ["p/a.txt", "p/d/e/it's ü\n", "p/d/empty", "p/large"]
    assert bucket.head("p/a.txt").content_type == "text/plain"
    down = octad("cp", "-r", place, "out")
    assert (down.code, down.err) == (0, "")
    assert down.out.startswith(f"download {place} -> out: 4 objects, 20.0 MiB\n")
    assert files_in(tmp_path / "out") == files_in(folder)


def test_one_file_gets_the_name_that_is_given_or_goes_into_a_folder(
    octad: Octad, bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    for target in ("new", "sub/", ""):
        assert octad("cp", "in/a.txt", f"s3://{bucket.name}/{target}").code == 0
    assert keys(bucket) == ["a.txt", "new", "sub/a.txt"]
    (tmp_path / "there").mkdir()
    for local in ("renamed", "there", "made/"):
        assert octad("cp", f"s3://{bucket.name}/a.txt", local).code == 0
    found = {name for name in files_in(tmp_path) if not name.startswith("in/")}
    assert found == {"renamed", "there/a.txt", "made/a.txt"}


def test_patterns_copies_inside_the_cluster_moves_and_removals(
    octad: Octad, bucket: Bucket
) -> None:
    for key in ("logs/1.gz", "logs/2.gz", "logs/2.txt", "logs/d/3.gz"):
        bucket.put(key, key.encode(), metadata={"kept": "yes"})
    place = f"s3://{bucket.name}"
    done = octad("cp", f"{place}/logs/*.gz", f"{place}/copy/")
    assert done.out.startswith(f"copy {place}/logs/*.gz -> {place}/copy/: 2 objects, 18 B\n")
    assert keys(bucket)[:2] == ["copy/1.gz", "copy/2.gz"]
    assert bucket.head("copy/1.gz").metadata == {"kept": "yes"}
    moved = octad("mv", "-r", f"{place}/copy", f"{place}/moved", "--json")
    assert json.loads(moved.out)["objects"] == 2
    assert [key for key in keys(bucket) if not key.startswith("logs")] == [
        "moved/1.gz",
        "moved/2.gz",
    ]
    assert octad("rm", f"{place}/logs/2.txt", f"{place}/moved/*").out == "removed 3 objects\n"
    assert keys(bucket) == ["logs/1.gz", "logs/2.gz", "logs/d/3.gz"]
    assert octad("rm", "-r", f"{place}/logs/").out == "removed 3 objects\n"
    assert keys(bucket) == []


def test_a_dry_run_changes_nothing_and_names_what_it_would_do(
    octad: Octad, bucket: Bucket, folder: Path
) -> None:
    bucket.put("k", b"12345")
    place = f"s3://{bucket.name}"
    up = octad("cp", "-r", "in", place, "--dry-run")
    assert up.out.splitlines()[0] == f"would upload in -> {place}/: 4 objects, 20.0 MiB"
    assert f"               5  in/a.txt -> {place}/a.txt" in up.out.splitlines()
    assert f"               3  in/d/e/it's ü\\n -> {place}/d/e/it's ü\\n" in up.out.splitlines()
    document = json.loads(octad("mv", f"{place}/k", f"{place}/l", "--dry-run", "--json").out)
    assert document["transfers"] == [{"source": f"{place}/k", "target": f"{place}/l", "size": 5}]
    assert octad("rm", "-r", place, "--dry-run").out.endswith("would remove 1 object, 5 B\n")
    assert keys(bucket) == ["k"]
    assert len(files_in(folder)) == 4


def test_what_is_listed_counted_found_and_known(octad: Octad, bucket: Bucket) -> None:
    for key in ("a", "d/b.gz", "d/e/c.gz", "d-other"):
        bucket.put(key, b"x" * 2000, metadata={"who": "me"}, tags={"t": "1"})
    place = f"s3://{bucket.name}"
    assert f"  {place}\n" in octad("ls").out
    assert [line.split()[-1] for line in octad("ls", place).out.splitlines()] == [
        f"{place}/a",
        f"{place}/d-other",
        f"{place}/d/",
    ]
    listed = octad("ls", "-r", f"{place}/d", "--json").out.splitlines()
    below = [f"{place}/d/b.gz", f"{place}/d/e/c.gz"]
    assert [json.loads(line)["object"] for line in listed] == below
    counted = json.loads(octad("du", f"{place}/d", "--json").out)
    assert counted == {"place": f"{place}/d", "objects": 2, "bytes": 4000}
    found = octad("find", place, "--name", "*.gz", "--larger", "1KB", "--newer", "1h")
    assert found.out.splitlines() == below
    assert octad("find", place, "--older", "1h").out == ""
    known = json.loads(octad("stat", f"{place}/a", "--json").out)
    assert (known["size"], known["metadata"], known["tags"]) == (2000, {"who": "me"}, {"t": "1"})
    assert "metadata          who = me\n" in octad("stat", f"{place}/a").out


def test_bytes_go_through_pipes_and_urls(octad: Octad, bucket: Bucket) -> None:
    place = f"s3://{bucket.name}/piped"
    assert octad("cp", "-", place, input="a stream").code == 0
    assert octad("cat", place, place).out == "a streama stream"
    assert octad("cp", place, "-").out == "a stream"
    url = octad("presign", place, "--expires", "5m").out.strip()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"a stream"


def test_what_cannot_be_carried_is_named_and_the_rest_is(
    octad: Octad, bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    (folder / "dangling").symlink_to("nothing")
    up = octad("cp", "-r", "in", f"s3://{bucket.name}/")
    assert (up.code, up.err) == (1, "octad: in/dangling: No such file or directory\n")
    assert len(keys(bucket)) == 4
    bucket.put("../outside", b"no")
    down = octad("cp", "-r", f"s3://{bucket.name}/", "out")
    assert down.code == 1
    assert down.err == f"octad: s3://{bucket.name}/../outside: a part of its key is . or ..\n"
    assert not (tmp_path / "outside").exists()
    assert len(files_in(tmp_path / "out")) == 4


def test_a_move_onto_itself_and_two_to_one_place_are_refused_before_anything_is_done(
    octad: Octad, bucket: Bucket
) -> None:
    bucket.put("a/x", b"1")
    bucket.put("b/x", b"2")
    place = f"s3://{bucket.name}"
    onto_itself = octad("mv", f"{place}/a/*", f"{place}/a/")
    assert (onto_itself.code, keys(bucket)) == (1, ["a/x", "b/x"])
    assert "onto itself; nothing was done" in onto_itself.err
    both = octad("mv", f"{place}/a/x", f"{place}/b/x", f"{place}/c/")
    assert (both.code, keys(bucket)) == (1, ["a/x", "b/x"])
    assert f"would both become {place}/c/x; nothing was done" in both.err


def test_a_bucket_is_made_and_removed_when_it_is_empty(octad: Octad, bucket: Bucket) -> None:
    assert (
        octad("bucket", "create", f"{bucket.name}-new").out == f"created s3://{bucket.name}-new\n"
    )
    assert octad("bucket", "create", "No").err.endswith("; see which buckets there are: octad ls\n")
    bucket.put("k", b"1")
    full = octad("bucket", "rm", bucket.name)
    assert full.code == 1
    assert full.err.endswith(f"; see what is in it: octad ls -r s3://{bucket.name}\n")
    removed = octad("bucket", "rm", f"{bucket.name}-new", "--json")
    assert json.loads(removed.out) == {"bucket": f"{bucket.name}-new", "done": "removed"}
    assert f"{bucket.name}-new" not in octad("ls").out


def test_a_buckets_cross_origin_rules_are_set_shown_and_taken_away(
    octad: Octad, bucket: Bucket, tmp_path: Path
) -> None:
    none = octad("bucket", "cors", "get", bucket.name)
    assert none.code == 4
    assert f"octad bucket cors set {bucket.name} FILE" in none.err
    rules = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://a.example"]}]}
    (tmp_path / "cors.json").write_text(json.dumps(rules))
    assert octad("bucket", "cors", "set", bucket.name, "cors.json").code == 0
    shown = octad("bucket", "cors", "get", f"s3://{bucket.name}")
    assert json.loads(shown.out) == rules
    assert octad("bucket", "cors", "set", bucket.name, "-", input=shown.out).code == 0
    bad = octad("bucket", "cors", "set", bucket.name, "-", input="<CORSConfiguration>")
    assert (bad.code, "MalformedXML" in bad.err) == (1, True)
    unread = octad("bucket", "cors", "set", bucket.name, "no such file")
    assert (unread.code, "cannot read no such file" in unread.err) == (2, True)
    assert octad("bucket", "cors", "set", bucket.name).code == 2, "it reads no terminal unasked"
    removed = octad("bucket", "cors", "rm", bucket.name, "--json")
    assert json.loads(removed.out)["bucket"] == bucket.name
    assert octad("bucket", "cors", "get", bucket.name).code == 4
    assert octad("bucket", "cors", "get", f"{bucket.name}-not").code == 4
