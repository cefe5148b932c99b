"""`python -m octad.chaos run`: break a cluster of our own for a while, and say what came of it.

Exit codes: 0 sound, 1 a violation (what is needed to look into it stays in the directory named),
2 not understood, 3 the run could not be made.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from octad.chaos.check.report import as_text
from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.process import ProcessFailed
from octad.chaos.faults.disk_faults import NotPossibleHere
from octad.chaos.faults.faults import SCENARIOS
from octad.chaos.run.run import RunOptions, run
from octad.sharding.limits import REPLICAS_ALLOWED

SOUND, VIOLATED, IMPOSSIBLE = 0, 1, 3


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    directory = options.keep or Path(tempfile.mkdtemp(prefix="octad-chaos-"))
    draw = random.Random(options.seed).random
    schedule = SCENARIOS[options.scenario](draw, options.nodes, options.seconds)
    chosen = RunOptions(
        directory,
        schedule,
        options.seconds,
        str(options.seed),
        Shape(options.nodes, options.replicas, options.etcd),
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run(chosen))
    except (ProcessFailed, NotPossibleHere) as error:
        print(f"octad chaos: {error}; see {directory}", file=sys.stderr)
        return IMPOSSIBLE
    except KeyboardInterrupt:
        return 130
    print(as_text(report), end="")
    if not report.is_sound:
        print(f"everything about it is in {directory}; the seed was {options.seed}")
        return VIOLATED
    if options.keep is None:
        shutil.rmtree(directory)
    return SOUND


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m octad.chaos", description="Break a cluster on purpose, and check it."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verb = verbs.add_parser("run", help="one run: a cluster, clients, faults, checks")
    verb.add_argument("--scenario", choices=sorted(SCENARIOS), default="mixed")
    verb.add_argument("--seconds", type=float, default=60.0, help="of faults (default: 60)")
    verb.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="default: a random one"
    )
    verb.add_argument("--nodes", type=int, default=3, help="default: 3")
    verb.add_argument(
        "--replicas", type=int, choices=REPLICAS_ALLOWED, default=3, help="default: 3"
    )
    verb.add_argument("--etcd", metavar="PROGRAM", help="an etcd to run in place of octad's store")
    verb.add_argument(
        "--keep", metavar="DIR", type=Path, help="where everything about the run stays"
    )
    return parser.parse_args(arguments)
