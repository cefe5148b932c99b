"""`make bench-command`: `octad sync` beside `aws s3 sync` and rclone, on a cluster of this machine.

Each puts the same files into a bucket of its own, in turn; then nothing is left to do, which is
measured, too. Rates are of this minute, in which other programs may run: compare rows, not pages.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.cluster_process import OCTAD, DevCluster
from tests.harness.s3_clients import aws_environment
from tools.bench import machine
from tools.bench.load import REPOSITORY

from octad.client.objects.client import Client

FILE_BYTES = 4096
# What made it quickest here: no HEAD after a PUT, no reading of times from metadata.
RCLONE = "--transfers 64 --checkers 64 --fast-list --s3-no-head --use-server-modtime --update"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-command", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="of 4 KiB (default 10000)")
    parser.add_argument("--rounds", type=int, default=2, help="of each command (default 2)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the cluster goes with it.
    print(f"{machine.machine()}, commit {machine.commit(REPOSITORY)}\n")
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-command-", dir=cache) as directory:
        folder = Path(directory) / "in"
        _make_files(folder, options.files)
        cluster = DevCluster(Path(directory))
        try:
            cluster.start()
            _compare(cluster, folder, options.rounds)
            cluster.stop()
        finally:
            cluster.kill()
    return 0


def _make_files(folder: Path, count: int) -> None:
    for number in range(count):
        file = folder / f"{number % 100:02}" / f"{number:05}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(FILE_BYTES))


def _compare(cluster: DevCluster, folder: Path, rounds: int) -> None:
    aws = shutil.which("aws", path=str(OCTAD.parent)) or "aws"
    commands: dict[str, list[str | Path]] = {
        "octad": [OCTAD, "sync", folder, "s3://{bucket}"],
        "aws": [aws, "s3", "sync", "--only-show-errors", folder, "s3://{bucket}"],
        "rclone": ["rclone", "copy", *RCLONE.split(), folder, ":s3:{bucket}"],
    }
    environment = {**aws_environment(cluster), "RCLONE_S3_PROVIDER": "Other"}
    environment |= {"RCLONE_S3_ENV_AUTH": "true", "RCLONE_S3_ENDPOINT": cluster.endpoint()}
    print("                  seconds   CPU s of the command   again: seconds")
    for round_number in range(rounds):
        for name, words in commands.items():
            bucket = f"{name}-{round_number}"
            with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
                client.create_bucket(bucket)
            command = [str(word).format(bucket=bucket) for word in words]
            taken_s, cpu_s = _timed(command, environment)
            again_s, _ = _timed(command, environment)
            print(f"  {name:14} {taken_s:8.1f} {cpu_s:22.1f} {again_s:16.1f}", flush=True)


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return end - begin, cpu_s


if __name__ == "__main__":
    sys.exit(main())
