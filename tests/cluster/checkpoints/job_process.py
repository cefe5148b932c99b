"""A job in a process of its own, which does what it is told, line by line, and says how it went.

begin | put NAME TEXT | commit | latest | end
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from octad import Checkpoints, Client, OctadError

REPOSITORY = Path(__file__).resolve().parents[3]


class JobProcess:
    """The one who tells it."""

    def __init__(self, url: str, endpoint: str, key: str, secret: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, url, endpoint, key, secret],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def main() -> None:
    url, endpoint, key, secret = sys.argv[1:]
    with Client(endpoint, key, secret) as client:
        checkpoints = Checkpoints(url, "shared", client=client)
        job = None
        for line in sys.stdin:
            verb, *words = line.split()
            try:
                if verb == "begin":
                    job = checkpoints.begin()
                    print(f"epoch {job.epoch}", flush=True)
                    continue
                assert job is not None
                if verb == "put":
                    job.put(words[0], words[1].encode())
                    print("put", flush=True)
                elif verb == "commit":
                    print(job.commit().id, flush=True)
                else:
                    last = job.latest()
                    print(last and last.read(words[0]).decode(), flush=True)
            except OctadError as error:
                print(type(error).__name__, flush=True)


if __name__ == "__main__":
    main()
