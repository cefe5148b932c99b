"""A process's log file is bounded, whoever writes to its descriptors, and loses nothing new."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from octad.client.runtime.logs.log_file import (
    LOG_FILE_BYTES_MAX,
    LOG_FILES_MAX,
    open_log,
)
from octad.sharding.limits import MIB

BYTES_MAX = 20_000
NODE_LOGS_BYTES_MAX = 64 * MIB

# Writes numbered lines straight to its descriptors, as a library in C does, in bursts between which
# the file has the time to change; then dies of a signal.
FLOOD = """
import os, sys, time
from pathlib import Path
from octad.client.runtime.logs.log_file import keep_output_bounded
path, bursts, burst_bytes, bytes_max = Path(sys.argv[1]), *map(int, sys.argv[2:])
keep_output_bounded(path, bytes_max)
number = 0
for _ in range(bursts):
    changed = os.fstat(2).st_ino
    for _ in range(burst_bytes // 20):
        number += 1
        os.write(1 + number % 2, b"%-19d\\n" % number)
    while os.fstat(2).st_ino == changed:
        time.sleep(0.01)
os.write(2, b"%-19d\\n" % (number + 1))
os.abort()
"""


def flood(log: Path, bursts: int, burst_bytes: int) -> list[Path]:
    """The files there are then, the oldest first, which have all of its last lines."""
    numbers = [str(bursts), str(burst_bytes), str(BYTES_MAX)]
    with open_log(log, BYTES_MAX) as output:
        done = subprocess.run(
            [sys.executable, "-c", FLOOD, str(log), *numbers],
            stdout=output,
            stderr=output,
            check=False,
            timeout=60,
        )
    assert done.returncode < 0, log.read_text()
    files = all_files(log)
    lines = [int(line) for file in files for line in file.read_text().splitlines()]
    assert lines == list(range(lines[0], bursts * (burst_bytes // 20) + 2))
    return files


def all_files(log: Path) -> list[Path]:
    """The oldest first."""
    return sorted(log.parent.iterdir(), reverse=True)


def total(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def test_a_flood_into_the_descriptors_fills_no_more_than_the_kept_files_without_a_gap(
    tmp_path: Path,
) -> None:
    files = flood(tmp_path / "n1.log", LOG_FILES_MAX + 2, BYTES_MAX)
    assert [file.name for file in files] == ["n1.log.3", "n1.log.2", "n1.log.1", "n1.log"]
    assert total(files) <= LOG_FILES_MAX * BYTES_MAX


def test_a_flood_that_overfills_each_file_leaves_the_fewer_of_them(tmp_path: Path) -> None:
    files = flood(tmp_path / "n1.log", LOG_FILES_MAX + 2, 3 * BYTES_MAX)
    assert files[-1].name == "n1.log"
    assert total(files) < 2 * LOG_FILES_MAX * BYTES_MAX


def test_a_full_log_is_changed_before_a_process_starts_and_what_it_said_is_beside_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "n1.log"
    for start in range(10):
        with open_log(log, BYTES_MAX) as output:
            output.write(b"x" * BYTES_MAX + b"\noctad: why start %d failed\n" % start)
    assert len(all_files(log)) == LOG_FILES_MAX
    with open_log(log, BYTES_MAX):
        assert not log.read_bytes()
    assert all_files(log)[-2].read_text().endswith("octad: why start 9 failed\n")


def test_of_a_log_from_before_there_was_a_bound_the_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "n1.log"
    log.write_bytes(b"as ever\n" * BYTES_MAX + b"octad: why it ended\n")
    open_log(log, BYTES_MAX).close()
    assert total(all_files(log)) == BYTES_MAX
    assert log.with_name("n1.log.1").read_text().endswith("octad: why it ended\n")


def test_an_output_that_is_not_the_file_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "n1.log"
    log.write_bytes(b"x" * BYTES_MAX)
    program = f"""
import threading
from pathlib import Path
from octad.client.runtime.logs.log_file import keep_output_bounded
keep_output_bounded(Path({str(log)!r}), 1)
keep_output_bounded(Path({str(log)!r} + ".none"), 1)
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert all_files(log) == [log]


def test_only_its_owner_reads_a_log(tmp_path: Path) -> None:
    former = os.umask(0o022)
    try:
        open_log(tmp_path / "n1.log").close()
    finally:
        os.umask(former)
    assert (tmp_path / "n1.log").stat().st_mode & 0o777 == 0o600


def test_the_logs_of_a_node_fit_their_bound_twice() -> None:
    assert 2 * LOG_FILES_MAX * LOG_FILE_BYTES_MAX <= NODE_LOGS_BYTES_MAX
