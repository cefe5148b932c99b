"""`make bench`: a three-node cluster with three copies, measured on this machine in three minutes.

Starts `octad dev` on free ports with its data on this checkout's disk, drives every node at once,
prints the table, and takes everything down again, whatever happens.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.harness.cluster_process import DevCluster
from tools.bench import machine, reference
from tools.bench.load import REPOSITORY, Cell, Load, LoadFailed, build
from tools.bench.report import MIB, Run, as_json, as_table

from octad.chaos.cluster.process import ProcessFailed

SMALL, LARGE = 4096, 8 * MIB
CONNECTIONS = (1, 16, 64)
CONNECTIONS_LARGE = (1, 16)
KEYS = 4000
KEYS_LARGE = 16
REFERENCE_S_MAX = 2.0
SETTLE_S = 1.0
KEYS_DELETED_TOGETHER = 10_000
DELETES_OF_PUTS = 0.6  # Per object stored: deletes need keys, which take time to put.


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    parent = REPOSITORY / ".cache"
    parent.mkdir(exist_ok=True)
    try:
        binary = build()
        with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as directory:
            run, cells = _measure(binary, Path(directory), options.seconds)
    except (LoadFailed, ProcessFailed) as failure:
        print(f"octad bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(as_json(run, cells) if options.json else as_table(run, cells))
    return 1 if any(cell.errors for cell in cells) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of every row (default 5)")
    parser.add_argument("--json", action="store_true", help="one object a row")
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(binary: Path, directory: Path, seconds: float) -> tuple[Run, list[Cell]]:
    beside = reference.measure(directory, min(seconds, REFERENCE_S_MAX))
    cluster = DevCluster(directory, nodes=3, options=("--replicas", "3"))
    try:
        ready_s = cluster.start()
        time.sleep(SETTLE_S)
        idle = tuple(machine.resident_mib(node.pid) for node in cluster.nodes)
        run = Run(machine.machine(), machine.commit(REPOSITORY), seconds, ready_s, idle, beside)
        load = Load(
            binary,
            ",".join(node.s3 for node in cluster.nodes),
            cluster.access_key,
            cluster.secret_key,
            ",".join(map(str, cluster.pids())),
            seconds,
        )
        cells = _cells(load)
        cluster.stop()
        return run, cells
    finally:
        cluster.kill()


def _cells(load: Load) -> list[Cell]:
    """All rows, in the table's order."""
    load.make_bucket()
    load.fill("k_", KEYS, SMALL)
    stored = ("-prefix", "k_", "-n", str(KEYS))
    cells = [_told(load.cell("put", SMALL, count, "-prefix", "p_")) for count in CONNECTIONS]
    puts_s = {cell.connections: cell.ops_s for cell in cells}
    cells += [_told(load.cell("get", SMALL, count, *stored)) for count in CONNECTIONS]
    cells += [_told(load.cell("head", SMALL, count, *stored)) for count in CONNECTIONS]
    cells += [_told(_deletes(load, count, puts_s[count])) for count in CONNECTIONS]
    load.fill("together_", KEYS_DELETED_TOGETHER, SMALL)
    together = ("-prefix", "together_", "-n", str(KEYS_DELETED_TOGETHER))
    cells.append(_told(load.cell("deleteobjects", SMALL, 1, *together)))
    cells += [_told(load.cell("list", SMALL, count, "-prefix", "k_")) for count in (1, 16)]
    large = ("-prefix", "large_", "-n", str(KEYS_LARGE))
    cells += [_told(load.cell("put", LARGE, c, "-prefix", "lp_")) for c in CONNECTIONS_LARGE]
    load.fill("large_", KEYS_LARGE, LARGE)
    cells += [_told(load.cell("get", LARGE, c, *large)) for c in CONNECTIONS_LARGE]
    return cells


def _deletes(load: Load, connections: int, puts_s: float) -> Cell:
    """Deletes end with the keys that there are: store as many as last for most of the time."""
    count = max(connections, int(puts_s * load.seconds * DELETES_OF_PUTS))
    prefix = f"d{connections}_"
    load.fill(prefix, count, SMALL)
    return load.cell("delete", SMALL, connections, "-prefix", prefix, "-n", str(count))


def _told(cell: Cell) -> Cell:
    """Progress, on stderr: the table comes at the end."""
    print(
        f"{cell.op} {cell.size} B, {cell.connections} connections: {cell.ops_s:,.0f}/s",
        file=sys.stderr,
        flush=True,
    )
    return cell


if __name__ == "__main__":
    sys.exit(main())
