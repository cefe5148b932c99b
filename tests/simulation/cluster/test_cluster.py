"""The node that ships, under everything that goes wrong at once, from a seed.

To replay a failure: the command that a run prints, python -m tests.simulation.cluster --replay NAME
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.simulation.cluster import __main__ as program
from tests.simulation.cluster.run import (
    LOSS_EVERY,
    VERSION,
    Failed,
    Shape,
    attempt,
    run_seed,
    run_shape,
    shape_of,
    summary,
)
from xxhash import xxh3_64_hexdigest

from octad.storage_node.replication.host.replication_receiver import ReplicationReceiver

STEPS_MIN = 7_000
OPERATIONS_MIN = 100


@pytest.mark.parametrize("seed", range(4), ids="seed-{}".format)
def test_what_was_acknowledged_or_read_is_never_undone_and_the_cluster_heals(seed: int) -> None:
    counts = summary(run_seed(seed))
    assert counts["steps"] >= STEPS_MIN
    assert counts["histories undecided"] == 0


def test_the_runs_get_somewhere() -> None:
    """Each for itself, or not: a cluster without a majority of anything answers little."""
    counts: Counter[str] = Counter()
    for seed in range(4, 8):
        counts.update(summary(run_seed(seed)))
    assert counts["operations answered"] >= OPERATIONS_MIN * 4
    assert counts["S3: answered"] >= OPERATIONS_MIN * 4
    assert counts["entries of several deletions"] >= 4
    for what in ("listed", "completed", "append", "copy", "delete_several", "race", "refused"):
        assert counts[f"S3: {what}"], what  # How often is the seeds' chance.


def test_a_seed_gives_the_same_run_twice() -> None:
    first, second = run_seed(8), run_seed(8)
    assert first.story == second.story
    assert first.timeline.digest == second.timeline.digest
    assert summary(first) == summary(second)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_gives_the_same_run_in_another_process(hash_seed: str) -> None:
    asked = (
        "import logging; logging.disable(); from tests.simulation.cluster.run import run_seed;"
        "print(run_seed(8).timeline.digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path.cwd())}
    told = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    assert int(told.stdout) == run_seed(8).timeline.digest


def test_a_node_that_goes_wrong_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error that the node itself catches and calls a bug."""
    monkeypatch.setattr(ReplicationReceiver, "_on_points", lambda *_: 1 / 0)
    failed = attempt(0, shape_of(0))
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError" in str(failed)
    assert any("hit a bug" in line for line in failed.story)


def test_a_failure_is_shrunk_to_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = shape_of(0)
    assert len(shape.kinds) > 2

    def fails_with_kills(seed: int, tried: object) -> Failed | None:
        kinds = getattr(tried, "kinds", ())
        return Failed(seed, "lost", ["it happened"]) if shape.kinds[1] in kinds else None

    monkeypatch.setattr(program, "attempt", fails_with_kills)
    assert program.shrink(0) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"it takes 1 clients and these kinds of faults: {shape.kinds[1]}"


def test_a_run_without_faults_and_with_one_node_of_one_copy() -> None:
    shape = shape_of(0)
    calm = type(shape)(nodes=1, replicas=1, clients=2, kinds=())
    assert summary(run_shape(0, calm))["operations answered"] >= OPERATIONS_MIN


def test_all_disks_are_replaced_one_after_another_and_nothing_is_lost() -> None:
    """A new node waits until the lease of the one before at its address has ended."""
    kinds = ("replace_disks",)
    world = run_shape(0, Shape(nodes=4, replicas=3, clients=1, kinds=kinds, faults_s=45.0))
    assert world.faults["disk_replaced"] >= len(world.machines)


def test_shards_that_are_lost_with_their_last_full_copy_are_recovered_by_force_and_go_on() -> None:
    counts: Counter[str] = Counter()
    for seed in range(LOSS_EVERY - 1, 4 * LOSS_EVERY, LOSS_EVERY):
        counts.update(summary(run_seed(seed)))
    assert counts["shards recovered by force"] > 0
    assert counts["disks that came back"] > 0
    assert counts["histories undecided"] == 0


def test_a_damaged_resume_file_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "PROGRESS", tmp_path / "next")
    assert program.next_seed() == 0
    for damaged in (b"", b"12x", b"40", b"v2:-1", b"v2:4\n0", b"\xff\xfe\x00"):
        program.PROGRESS.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is no seed.*remove that file to begin at 0"):
            program.next_seed()
    program.PROGRESS.write_text(program.named(40) + "\n")
    assert program.next_seed() == 40


def test_a_seed_of_another_version_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    older = f"v{VERSION - 1}:40"
    for verb in ("--replay", "--shrink"):
        with pytest.raises(SystemExit):
            program.main([verb, older])
        told = capsys.readouterr().err
        assert f"{older} is a seed of version {VERSION - 1}" in told
        assert "replay it at the commit that printed it" in told


def test_the_version_is_raised_when_seeds_stand_for_something_else() -> None:
    """Else a replay would tell another story than the run that failed, without a word."""
    shapes = repr([shape_of(seed) for seed in range(100)]).encode()
    assert (VERSION, xxh3_64_hexdigest(shapes)) == (2, "ea337644e6193d73")


def test_a_run_goes_on_where_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not past a seed that has failed, whose one command is printed."""
    monkeypatch.setattr(program, "PROGRESS", tmp_path / "new" / "next")
    monkeypatch.setattr(program, "CHUNK", 2)
    monkeypatch.setattr(program, "ProcessPoolExecutor", ThreadPoolExecutor)
    failing = {5}

    def run_chunk(seeds: range) -> program.Chunk:
        failures = [(seed, "lost") for seed in seeds if seed in failing]
        return program.Chunk(seeds.stop, len(seeds), 1.0, Counter(steps=1), failures)

    monkeypatch.setattr(program, "run_chunk", run_chunk)
    assert program.main(["--seeds", "4"]) == 0
    assert program.next_seed() == 4
    assert program.main(["--seeds", "4"]) == 1
    assert program.next_seed() == 4, "the failing one is run again"
    assert f"--replay {program.named(5)}\n" in capsys.readouterr().out
    failing.clear()
    assert program.main(["--seeds", "4"]) == 0
    assert program.next_seed() == 8
