"""Drives a cluster with the load generator in `tools/s3load`, one cell of the table at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "tools" / "s3load"
BINARY = REPOSITORY / ".cache" / "bin" / "s3load"
BUCKET = "bench"
WARM_UP_SHARE = 0.2
OVERTIME_S = 120.0


class LoadFailed(Exception):
    """The generator is missing, or could not do its work; the message says what to do."""


class Measured(TypedDict):
    """What the generator says with `-json`, as far as it is used here."""

    ops_s: float
    MB_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_us_op: float
    errs: int
    last_err: str
    foreign_cores: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table: how fast, and what it cost."""

    op: str
    size: int
    connections: int
    ops_s: float
    mb_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_us_op: float
    errors: int
    foreign_cores: float  # What other programs used meanwhile: the figure is fair if it is small.


def build() -> Path:
    """The generator's binary, made again when its source is newer."""
    source_time = max(path.stat().st_mtime for path in SOURCES.iterdir())
    if BINARY.exists() and BINARY.stat().st_mtime > source_time:
        return BINARY
    go = shutil.which("go")
    if go is None:
        raise LoadFailed(
            "the load generator is written in Go, and there is no go on PATH; "
            "install it: sudo apt-get install golang-go"
        )
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        [go, "build", "-o", BINARY, "."], cwd=SOURCES, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise LoadFailed(f"go build failed in {SOURCES}; {built.stderr.strip()}")
    os.utime(BINARY)
    return BINARY


@dataclass(frozen=True, slots=True)
class Load:
    """What every call of the generator has in common."""

    binary: Path
    endpoints: str
    access_key: str
    secret_key: str
    pids: str
    seconds: float

    def make_bucket(self) -> None:
        self._run("mkbucket")

    def fill(self, prefix: str, count: int, size: int) -> None:
        """Put `count` objects that later cells read, list or delete."""
        done = self._measure("fill", size, 16, "-prefix", prefix, "-n", str(count))
        if done["errs"]:
            raise LoadFailed(f"could not store {prefix}: {done['last_err']}")

    def cell(self, op: str, size: int, connections: int, *options: str) -> Cell:
        """Run one operation for the seconds given, and a little before that to warm up."""
        done = self._measure(op, size, connections, *options)
        if done["errs"]:
            print(f"{op} {size} B: {done['last_err']}", file=sys.stderr, flush=True)
        return Cell(
            op=op,
            size=size,
            connections=connections,
            ops_s=round(done["ops_s"], 1),
            mb_s=round(done["MB_s"], 1),
            p50_ms=done["p50_ms"],
            p99_ms=done["p99_ms"],
            server_cpu_us_op=round(done["server_cpu_us_op"], 1),
            errors=done["errs"],
            foreign_cores=round(done["foreign_cores"], 2),
        )

    def _measure(self, op: str, size: int, connections: int, *options: str) -> Measured:
        warm_up = self.seconds * WARM_UP_SHARE
        timing = ["-t", str(self.seconds), "-warm", str(warm_up), "-pids", self.pids, "-json"]
        printed = self._run(op, "-size", str(size), "-c", str(connections), *timing, *options)
        measured: Measured = json.loads(printed)
        return measured

    def _run(self, op: str, *options: str) -> str:
        where = ["-endpoint", self.endpoints, "-ak", self.access_key, "-sk", self.secret_key]
        try:
            done = subprocess.run(
                [self.binary, *where, "-bucket", BUCKET, "-op", op, *options],
                capture_output=True,
                text=True,
                timeout=self.seconds * 2 + OVERTIME_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"{op}: the load generator did not come to an end") from error
        if done.returncode:
            raise LoadFailed(f"{op}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
