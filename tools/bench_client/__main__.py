"""`make bench-client`: what the SDK costs, beside boto3 and obstore, on a cluster of this machine.

CPU is that of the client's process, the least of several rounds. *Beyond the socket* is what is
left when the same bytes over a bare socket are taken off. Rates are of this minute, in which other
programs may run: compare rows, not pages.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.cluster_process import DevCluster
from tools.bench import machine
from tools.bench.load import BUCKET, REPOSITORY, Load, build

from octad.client.objects.client import Client

CONTENDER = Path(__file__).with_name("contender.py")
IMPORTS = {
    "python": "pass",
    "octad.Client": "import octad; octad.Client",
    "octad.AsyncClient": "import octad; octad.AsyncClient",
    "boto3": "import boto3",
    "obstore": "import obstore",
}
STARTS = 12
LARGE_MIB = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-client", description=__doc__)
    parser.add_argument("--large", type=int, default=1024, help="MiB up and down (default 1024)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the load generator's rows")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the cluster goes with it.
    pythons = {"octad": sys.executable, "boto3": sys.executable, "obstore": _clients_python()}
    print(f"{machine.machine()}, commit {machine.commit(REPOSITORY)}\n")
    _print_imports(pythons)
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-client-", dir=cache) as directory:
        cluster = DevCluster(Path(directory))
        try:
            cluster.start()
            _print_calls(cluster, pythons)
            os.environ["BENCH_FILE"] = str(Path(directory) / "download")
            _print_large(cluster, options.large, options.seconds)
            cluster.stop()
        finally:
            cluster.kill()
    return 0


def _clients_python() -> str:
    found = subprocess.run(
        [REPOSITORY / "tools" / "ensure_clients.sh"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def _print_imports(pythons: dict[str, str]) -> None:
    print("import, ms of CPU")
    for name, code in IMPORTS.items():
        python = pythons.get(name, sys.executable)
        print(f"  {name:20} {min(_cpu_ms(python, code) for _ in range(STARTS)):6.1f}")


def _cpu_ms(python: str, code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # As programs are run.
    subprocess.run([python, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _print_calls(cluster: DevCluster, pythons: dict[str, str]) -> None:
    with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
        client.create_bucket(BUCKET).put("k", b"x" * 4096)
    found = {name: _contender(cluster, python, name, "calls") for name, python in pythons.items()}
    ours = found["octad"]
    get, put = ours["bare_get_us"], ours["bare_put_us"]
    print("\n4 KiB, us of CPU a call        GET    PUT   GET beyond the socket   PUT beyond")
    print(f"  bare socket               {get:6.0f} {put:6.0f}")
    rows = [(name, figures["get_us"], figures["put_us"]) for name, figures in found.items()]
    rows.append(("octad, asyncio", ours["async_get_us"], ours["async_put_us"]))
    for name, get_us, put_us in rows:
        beyond = f"{get_us - get:23.0f} {put_us - put:12.0f}"
        print(f"  {name:25} {get_us:6.0f} {put_us:6.0f} {beyond}")
    print("\n64 GETs of 4 KiB at a time, a second")
    for name, figures in found.items():
        print(f"  {name:25} {figures['gets_s']:6.0f}")


def _print_large(cluster: DevCluster, large_mib: int, seconds: float) -> None:
    os.environ["BENCH_LARGE_MIB"] = str(large_mib)
    ours = _contender(cluster, sys.executable, "octad", "large")
    endpoints = ",".join(node.s3 for node in cluster.nodes)
    pids = ",".join(map(str, cluster.pids()))
    load = Load(build(), endpoints, cluster.access_key, cluster.secret_key, pids, seconds)
    size = LARGE_MIB * machine.KIB**2
    up = load.cell("put", size, 4, "-prefix", "lp_")
    load.fill("large_", 16, size)
    down = load.cell("get", size, 4, "-prefix", "large_", "-n", "16")
    print(f"\n{large_mib} MiB in one object, MiB/s       up   down")
    print(f"  octad, iterator and file  {ours['up']:6.0f} {ours['down']:6.0f}")
    print(f"  octad, as one stream             {ours['streamed']:6.0f}")
    print(f"  load generator, 4 at once {up.mb_s:6.0f} {down.mb_s:6.0f}")
    print(f"  memory of octad's process grew by {ours['grown_mib']:.0f} MiB")


def _contender(cluster: DevCluster, python: str, name: str, task: str) -> dict[str, float]:
    where = cluster.endpoint(), cluster.access_key, cluster.secret_key, cluster.coordinator
    done = subprocess.run(
        [python, CONTENDER, name, task, *where], stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main())
