"""A job that is killed again and again, at any point, and restored: run as a program of its own.

Its state after `n` steps is known without doing them, so what is restored can be compared. Each
round forks a process that begins the job, restores, compares, and commits until it is killed.

    python -m tests.cluster.checkpoints.killed_job URL ENDPOINT KEY SECRET ROUNDS SEED

prints one JSON document: rounds, commits that were acknowledged, and what was wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from octad import Checkpoint, Checkpoints, Client
from octad.client.checkpoints.collector import documents
from octad.client.checkpoints.place import Store
from octad.client.checkpoints.verifying import data_there
from octad.client.http.blocking import drive

FILES = 12
REQUESTS_MAX = 70  # Of a round: with a restore at its beginning, and some ten commits.
PLACE = ("events", 0)


def file_after(step: int, number: int) -> bytes:
    """File `number` changes in every FILES-th step."""
    changed = step - (step - number) % FILES
    return f"{number} {max(changed, 0)} ".encode() * (200 + number)


class Counted:
    """A store that says before and after each request that it goes out, and that it is over."""

    def __init__(self, store: Store, pipe: int) -> None:
        self._store = store
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name == "list":
            return found

        async def call(*given: Any, **named: Any) -> Any:
            os.write(self._pipe, b".\n")
            try:
                return await found(*given, **named)
            finally:
                os.write(self._pipe, b".\n")

        return call


def is_state_of(checkpoint: Checkpoint, folder: Path) -> bool:
    step = checkpoint.offsets[PLACE]
    return {each.name: each.read_bytes() for each in folder.iterdir()} == {
        f"{number}.sst": file_after(step, number) for number in range(FILES)
    }


def run_until_killed(checkpoints: Checkpoints, folder: Path, pipe: int) -> None:
    job = checkpoints.begin(keep=4)
    last = job.latest()
    step = 0
    if last is not None:
        last.restore(folder)
        if not is_state_of(last, folder):
            os.write(pipe, b"differs\n")
            return
        step = last.offsets[PLACE]
    else:
        folder.mkdir()
    while True:
        step += 1
        for number in range(FILES):
            (folder / f"{number}.sst").write_bytes(file_after(step, number))
        job.put_dir(folder)
        job.commit({PLACE: step}, savepoint=f"at {step}" if step % 40 == 0 else "")
        os.write(pipe, f"{step}\n".encode())


def one_round(checkpoints: Checkpoints, chance: random.Random) -> tuple[int, str]:
    """The last step that was acknowledged, and what was wrong."""
    with TemporaryDirectory() as folder:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                count_requests(checkpoints, writing)
                run_until_killed(checkpoints, Path(folder) / "state", writing)
            except BaseException as error:
                os.write(writing, f"{error!r}\n".encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as said:
            words = []
            for _ in range(2 * chance.randrange(REQUESTS_MAX) + chance.randrange(2)):
                words.append(said.readline().strip())
            time.sleep(chance.choice((0.0, chance.uniform(0.0, 0.003))))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            words += said.read().split("\n")
        steps = [int(word) for word in words if word.isdigit()]
        wrong = " ".join(word for word in words if word.strip(".") and not word.isdigit())
        return max(steps, default=0), wrong


def count_requests(checkpoints: Checkpoints, pipe: int) -> None:
    place = checkpoints.place
    counted = cast(Store, Counted(place.store, pipe))
    checkpoints._checkpoints._place = place._replace(store=counted)


def newest(checkpoints: Checkpoints, acknowledged: int) -> str:
    last = checkpoints.latest()
    if last is None:
        return f"step {acknowledged} was acknowledged, and nothing is there" * bool(acknowledged)
    if last.offsets[PLACE] < acknowledged:
        return f"step {acknowledged} was acknowledged, and {last.offsets} is the newest"
    with TemporaryDirectory() as folder:
        last.restore(Path(folder) / "state")
        if not is_state_of(last, Path(folder) / "state"):
            return f"{last.id} is restored as another state than that of its offsets"
    return ""


def main() -> None:
    url, endpoint, key, secret, rounds, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    client = Client(endpoint, key, secret)
    checkpoints = Checkpoints(url, "killed", client=client)
    place = checkpoints.place
    wrong, acknowledged = [], 0
    for _ in range(int(rounds)):
        collector = 0
        if chance.random() < 0.3:
            collector = os.fork()  # It works while the job does, and may be killed, too.
            if collector == 0:
                with suppress(BaseException):
                    checkpoints.collect()
                os._exit(0)
        step, said = one_round(checkpoints, chance)
        if collector:
            if chance.random() < 0.5:
                os.kill(collector, signal.SIGKILL)
            os.waitpid(collector, 0)
        acknowledged = max(acknowledged, step)
        wrong += [each for each in (said, newest(checkpoints, acknowledged)) if each]
    checkpoints.begin()
    taken = checkpoints.collect()
    after = checkpoints.audit()
    named = {
        part.data
        for each in checkpoints.list()
        for file in drive(each._checkpoint._read_manifest()).files
        for part in file.parts
    }
    print(
        json.dumps(
            {
                "acknowledged": acknowledged,
                "wrong": wrong,
                "taken": len(taken.objects),
                "orphans": sorted(set(drive(data_there(place))) - named),
                "others": sorted(each.job for each in drive(documents(place)) if each.name == "")[
                    1:
                ],
                "broken": after.broken,
                "checkpoints": after.checkpoints,
            }
        )
    )


if __name__ == "__main__":
    main()
