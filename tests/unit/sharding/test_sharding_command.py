"""`octad sharding` as a user meets it: its tables and files, and what it says to bad input."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from octad.sharding.study import sharding_command

SMALL = ["--nodes", "4,8", "--keys", "2000", "--schemes", "map,mod,ring-128,straw2"]


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    sharding_command.add_arguments(parser)
    return sharding_command.run(parser.parse_args(words))


def test_the_command_is_cheap_to_import() -> None:
    code = (
        "import sys, octad.sharding.study.sharding_command;"
        "sys.exit('numpy' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pure_library_imports_no_numpy() -> None:
    code = (
        "import sys;"
        "from octad.sharding.assignment import assignment, move_plan;"
        "from octad.sharding.map import compact_map, pool_lookup, shard_map, splitting;"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compare_prints_what_moved_and_the_minimum(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", *SMALL) == 0
    printed = capsys.readouterr().out
    assert "moved at +1" in printed
    assert "4→5" in printed
    assert "10 years of growth" in printed
    assert all(name in printed for name in ("map", "mod", "ring-128", "straw2"))


def test_compare_writes_tables_a_page_and_figures_that_agree(tmp_path: Path) -> None:
    assert run("compare", *SMALL, "--zones", "4", "--output", str(tmp_path / "new" / "out")) == 0
    out = tmp_path / "new" / "out"
    with (out / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = json.loads((out / "compare.json").read_text())
    assert len(rows) == len(data["rows"]) == 4 * 2 * 4
    assert {row["scheme"] for row in rows} == set(data["schemes"])
    ours = [row for row in data["rows"] if row["scheme"] == "map"]
    # The minimum knows nothing of which rows there are: zones can ask for a little more.
    assert all(abs(row["moved"] - row["minimum"]) < 0.05 for row in ours)
    assert all(row["zones_broken"] == 0 for row in ours)
    assert any(row["zones_broken"] > 0 for row in data["rows"] if row["scheme"] == "mod")
    for row in data["rows"]:
        assert (row["degraded_hours"] > 0) == (row["step"] == "-1")
    page = (out / "compare.html").read_text()
    assert "<svg" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page), "nothing is loaded from elsewhere"
    names = {"moved-plus1", "moved-x2", "moved-minus1", "moved-drain", "load", "lookup", "state"}
    for name in names | {"sets", "growth"}:
        assert (out / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_writes_the_same_figures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("compare", *SMALL, "--output", str(tmp_path / name)) == 0
    for file in ("moved-plus1.svg", "growth.svg", "load.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_trace_weighs_objects_by_their_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    lines = [b"# size, tab, key", b""] + [b"%d\tphotos/%d\xff.jpg" % (i, i) for i in range(3_000)]
    trace.write_bytes(b"\n".join(lines))
    assert run("compare", *SMALL, "--trace", str(trace), "--output", str(tmp_path / "out")) == 0
    data = json.loads((tmp_path / "out" / "compare.json").read_text())
    moved = [r["moved"] for r in data["rows"] if (r["scheme"], r["step"]) == ("map", "x2")]
    assert moved == [pytest.approx(0.5, abs=0.05)] * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"12 photos/1.jpg", "line 2: '12 photos/1.jpg' is not `size<TAB>key`"),
        (b"12\t", "line 2"),
        (b"-5\tkey", "does not start with a size in bytes"),
        (b"1e3\tkey", "does not start with a size in bytes"),
        (b"9" * 20 + b"\tkey", "give a whole number up to"),
        (b"7\tfirst", "line 2: the key is there twice"),
        (b"1\t" + b"k" * 1025, "a key of 1025 bytes"),
    ],
)
def test_a_bad_line_of_a_trace_is_named_and_nothing_is_written(
    line: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(b"1\tfirst\n" + line + b"\n")
    out = tmp_path / "out"
    assert run("compare", *SMALL, "--trace", str(trace), "--output", str(out)) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", "0"], "a cluster has at least one node"),
        (["--nodes", "2"], "2 nodes cannot hold 3 replicas"),
        (["--nodes", "four"], "'four' is not a number"),
        (["--nodes", "4,4"], "names a count twice"),
        (["--nodes", "10001"], "too large"),
        (["--replicas", "4"], "--replicas 4 is out of range"),
        (["--replicas", "2.5"], "not a whole number"),
        (["--weights", "1,0"], "--weights 0 is no weight"),
        (["--weights", "-1"], "--weights -1 is no weight"),
        (["--weights", "nan"], "--weights nan is no weight"),
        (["--weights", "x"], "'x' is not a number"),
        (["--zones", "2"], "2 zones cannot hold 3 replicas"),
        (["--zones", "a,,b"], "a zone without a name"),
        (["--zones", "a,a,a,b,c", "--nodes", "4"], "reach only 2 zones"),
        (["--steps", "grow"], "'grow' is not a step"),
        (["--steps", "x1"], "'x1' is not a step"),
        (["--steps", "+1,+1"], "names a step twice"),
        (["--steps", "-1", "--nodes", "3"], "no step is possible"),
        (["--schemes", "magic"], "'magic' is not known"),
        (["--keys", "0"], "--keys 0 is out of range"),
        (["--keys", "many"], "'many' is not a number"),
        (["--price", "inf"], "--price inf is out of range"),
        (["--trace", "/nowhere/trace"], "No such file"),
    ],
)
def test_bad_input_is_one_line_with_its_cure_and_nothing_is_written(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("compare", *[f"{a}={b}" for a, b in zip(words[::2], words[1::2], strict=True)],
               "--output", str(out)) == 2  # fmt: skip
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("octad: ")
    assert "; " in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not out.exists()


def test_an_output_that_is_a_file_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert run("compare", "--output", str(tmp_path / "file")) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run("compare") == 2
    assert "pip install 'octad[study]'" in capsys.readouterr().err


def test_simulate_prints_years_the_talks_figures_and_its_own_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("simulate", "--nodes", "9", "--years", "3", "--output", str(out)) == 0
    printed = capsys.readouterr().out
    for text in ("99.99%", "2.15%", "0.09%", "116 min", "Monte-Carlo", "random-sets"):
        assert text in printed
    years = json.loads((out / "simulate.json").read_text())["years"]
    assert [year["nodes"] for year in years] == [9, 11, 15, 19]
    for year in years[1:]:
        assert year["moved"] == pytest.approx(year["minimum"], abs=0.01)
    assert "<svg" in (out / "simulate.html").read_text()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--nodes=0", "0 nodes cannot hold 3 replicas"),
        ("--nodes=10001", "--nodes 10001 is out of range"),
        ("--afr=0", "--afr 0 is out of range"),
        ("--afr=nan", "--afr nan is out of range"),
        ("--years=0", "--years 0 is out of range"),
        ("--repair-minutes=soon", "'soon' is not a number"),
        ("--scatter=0", "--scatter 0 is out of range"),
    ],
)
def test_simulate_refuses_what_makes_no_sense(
    option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("simulate", option, "--output", str(tmp_path / "out")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
