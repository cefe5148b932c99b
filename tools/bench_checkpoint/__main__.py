"""`make bench-checkpoint`: what checkpoints cost, on a cluster of three nodes of this machine.

Times are of this minute, in which other programs may run; bytes and requests are not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, cast

from tests.harness.cluster_process import DevCluster
from tools.bench import machine
from tools.bench.load import REPOSITORY

from octad.client.checkpoints.async_checkpoints import AsyncCheckpoints
from octad.client.checkpoints.checkpoints import Checkpoints
from octad.client.checkpoints.collector import Collector
from octad.client.checkpoints.place import Place, Store
from octad.client.http.blocking import drive
from octad.client.objects.client import Client
from octad.sharding.limits import KIB, MIB

BUCKET: Final = "checkpoints"
URL: Final = f"s3://{BUCKET}/bench"
SMALL_COMMITS: Final = 100
CHANGED: Final = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-checkpoint", description=__doc__)
    parser.add_argument("--large", type=int, default=1024, help="MiB of state (default 1024)")
    parser.add_argument("--kept", type=int, default=10_000, help="checkpoints (default 10000)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the cluster goes with it.
    print(f"{machine.machine()}, commit {machine.commit(REPOSITORY)}\n")
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-", dir=cache) as directory:
        cluster = DevCluster(Path(directory))
        try:
            cluster.start()
            keys = cluster.access_key, cluster.secret_key
            with Client(cluster.endpoint(), *keys) as client:
                client.create_bucket(BUCKET)
                _print_small(client)
                _print_large(client, Path(directory), options.large)
                _print_many(client, options.kept)
            cluster.stop()
        finally:
            cluster.kill()
    return 0


def _print_small(client: Client) -> None:
    job = Checkpoints(URL, "small", client=client).begin(keep=10)
    times = []
    for number in range(SMALL_COMMITS):
        data = random.Random(number).randbytes(100 * KIB)
        begin = time.perf_counter()
        job.put("state", data)
        job.commit({("events", 0): number})
        times.append((time.perf_counter() - begin) * 1000)
    slow = sorted(times)[int(len(times) * 0.99) - 1]
    print(f"100 KiB committed      p50 {statistics.median(times):6.1f} ms   p99 {slow:6.1f} ms")


def _print_large(client: Client, folder: Path, size_mib: int) -> None:
    state = folder / "state"
    state.mkdir()
    with (state / "large").open("wb") as file:
        for number in range(size_mib):
            file.write(random.Random(number).randbytes(MIB))
    job = Checkpoints(URL, "large", client=client).begin()
    job.put_dir(state)
    first = job.commit()
    print(f"{size_mib} MiB               {first.added / MIB:8.1f} MiB stored at first")
    with (state / "large").open("r+b") as file:
        file.seek(size_mib * MIB // 3)
        file.write(os.urandom(int(size_mib * MIB * CHANGED)))
    begin, cpu = time.perf_counter(), time.process_time()
    job.put_dir(state)
    second = job.commit()
    took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    share = second.added / second.bytes
    print(
        f"  {CHANGED:.0%} of it changed     {share:8.2%} stored, {took:.2f} s, {cpu:.2f} s of CPU"
    )
    begin = time.perf_counter()
    second.restore(folder / "back")
    restored = size_mib / (time.perf_counter() - begin)
    bucket = client.bucket(BUCKET)
    bucket.put("beside", state / "large")
    begin = time.perf_counter()
    bucket.download("beside", folder / "beside")
    beside = size_mib / (time.perf_counter() - begin)
    print(f"  restored           {restored:8.0f} MiB/s; the SDK's download {beside:.0f} MiB/s")


class _Counted:
    """A store that counts its requests; a listing's pages are of a thousand keys."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)

        def call(*given: Any, **named: Any) -> Any:
            self.requests += 1
            return found(*given, **named)

        return call


def _print_many(client: Client, kept: int) -> None:
    checkpoints = Checkpoints(f"{URL}/many", "many", client=client)
    job = checkpoints.begin()
    done = 0
    for count in sorted({kept // 10, kept}):
        while done < count:
            done += 1
            job.put("state", b"%d" % done)
            job.commit({("events", 0): done})
        for name, requests, took in (_listed(checkpoints.place), _collected(checkpoints.place)):
            print(f"{count:6} kept: {name:8} {requests:6} requests besides listings, {took:.2f} s")


def _listed(place: Place) -> tuple[str, int, float]:
    counted = _Counted(place.store)
    begin = time.perf_counter()
    drive(AsyncCheckpoints.at(place._replace(store=cast(Store, counted)), "many").list())
    return "list", counted.requests, time.perf_counter() - begin


def _collected(place: Place) -> tuple[str, int, float]:
    counted = _Counted(place.store)
    begin = time.perf_counter()
    drive(Collector(place._replace(store=cast(Store, counted))).collect())
    return "gc", counted.requests, time.perf_counter() - begin


if __name__ == "__main__":
    raise SystemExit(main())
