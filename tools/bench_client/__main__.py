"""`make bench-client`: what the SDK costs, beside boto3 and obstore, on a cluster of this machine.

CPU is that of the client's process, the least of several rounds. *Beyond bare* is what is left when
the same bytes over a bare socket, or a bare asyncio protocol, are taken off. Rates are of this
minute, in which other programs may run: compare rows, not pages.
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
OPEN_LOOP = CONTENDER.with_name("open_loop.py")
STARTS = 12
WAY_PUTS, WAY_ROUNDS = 300, 7
LARGE_MIB = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-client", description=__doc__)
    parser.add_argument("--large", type=int, default=1024, help="MiB up and down (default 1024)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the load generator's rows")
    parser.add_argument("--frozen", type=float, default=60.0, help="seconds of a frozen node")
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
            _print_ways(cluster)
            os.environ["BENCH_FILE"] = str(Path(directory) / "download")
            _print_large(cluster, options.large, options.seconds)
            _print_frozen(cluster, options.frozen)
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
    rows = [(name, "", figures) for name, figures in found.items()]
    rows.append(("octad, asyncio", "async_", ours))
    print("\n4 KiB, us of CPU a call        GET    PUT   GET beyond bare   PUT beyond bare")
    for name, kind in (("bare socket", ""), ("bare asyncio", "async_")):
        print(f"  {name:25} {ours[f'{kind}bare_get_us']:6.0f} {ours[f'{kind}bare_put_us']:6.0f}")
    for name, kind, figures in rows:
        beyond = [figures[f"{kind}{c}_us"] - ours[f"{kind}bare_{c}_us"] for c in ("get", "put")]
        get_us, put_us = figures[f"{kind}get_us"], figures[f"{kind}put_us"]
        print(f"  {name:25} {get_us:6.0f} {put_us:6.0f} {beyond[0]:17.0f} {beyond[1]:17.0f}")
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


def _print_ways(cluster: DevCluster) -> None:
    """PUTs of keys that the first node does not lead: passed on by it, and straight to who does."""
    keys = cluster.access_key, cluster.secret_key
    nodes = [node.pid for node in cluster.nodes]
    with (
        Client(cluster.endpoint(), *keys) as passed_on,
        Client(None, *keys, cluster.coordinator) as straight,
    ):
        led = Led(straight)
        others = [key for key in map("w{}".format, range(2000)) if not led.by(cluster, key)]
        clients = {"passed on by another": passed_on, "straight to its node": straight}
        best = dict.fromkeys(clients, float("inf"))
        for _ in range(WAY_ROUNDS):
            for name, client in clients.items():
                bucket = client.bucket(BUCKET)
                before = sum(map(_cpu_s_of, nodes))
                for key in others[:WAY_PUTS]:
                    bucket.put(key, b"x" * 4096)
                spent = (sum(map(_cpu_s_of, nodes)) - before) / WAY_PUTS * 1e6
                best[name] = min(best[name], spent)
    print("\nPUT of 4 KiB, us of CPU of all servers")
    for name, spent_us in best.items():
        print(f"  {name:25} {spent_us:6.0f}")


def _print_frozen(cluster: DevCluster, seconds: float) -> None:
    where = cluster.endpoint(), cluster.access_key, cluster.secret_key, cluster.coordinator
    command = [sys.executable, str(OPEN_LOOP), *where, str(cluster.nodes[2].pid), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    print(f"\n{found['rate']:.0f} GETs a second, hedged, ms           p50    p99  longest  failed")
    for name in ("normal", "frozen"):
        reads = found[name]
        shown = (
            f"{reads['p50']:6.1f} {reads['p99']:6.1f} {reads['longest']:8.1f} {reads['failed']:7}"
        )
        print(
            f"  {name if name == 'normal' else f'a node frozen, {seconds:.0f} s':25}      {shown}"
        )


class Led:
    """Which node leads a key's shard, as a client with a coordinator knows it."""

    def __init__(self, client: Client) -> None:
        client.bucket(BUCKET).put("k", b"")
        self._caller = client._client.caller

    def by(self, cluster: DevCluster, key: str) -> bool:
        """Whether the first node does."""
        keeper = self._caller._keeper
        assert keeper is not None
        address = keeper.placement.address(BUCKET, key)
        return address is not None and address.url == cluster.endpoint()


def _cpu_s_of(pid: int) -> float:
    """What a process's threads have spent so far, in seconds."""
    spent = (each.read_text().split()[0] for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, spent)) / 1e9


def _contender(cluster: DevCluster, python: str, name: str, task: str) -> dict[str, float]:
    where = cluster.endpoint(), cluster.access_key, cluster.secret_key, cluster.coordinator
    done = subprocess.run(
        [python, CONTENDER, name, task, *where], stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main())
