"""A cluster of one node for the length of a `with`: what the fixtures of the pytest plugin give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from octad.client.errors import BucketNotFound
from octad.client.objects.bucket import Bucket
from octad.client.objects.client import Client
from octad.storage_node.dev.dev_directory import RUNNING_FILE, free_ports

START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0
_POLL_S: Final = 0.01
_PORTS_TRIED: Final = 5  # Another process may take one between the look at it and its use.
_READY: Final = " is ready: "
_TAKEN: Final = "is in use"
_SAID_CHARACTERS: Final = 4000  # Of what it printed, in an error.
_KEY: Final = "octad-test"


class OctadServer(NamedTuple):
    """A running cluster. `coordinator` is for `octad.Client(coordinator=…)`."""

    endpoint: str
    access_key: str
    secret_key: str
    coordinator: str
    client: Client

    @property
    def environment(self) -> Mapping[str, str]:
        """What S3 clients of any kind read: AWS_ENDPOINT_URL, the keys, a region."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


class CannotStart(Exception):
    """`octad dev` ended before it served; the message is what it said."""


@contextmanager
def running_server(directory: Path) -> Iterator[OctadServer]:
    """With its data in `directory`, which is emptied at the end. Raises CannotStart."""
    secret = uuid4().hex
    data, log = directory / "data", directory / "octad-dev.log"
    process, port = _started(data, log, secret)
    try:
        running = json.loads((data / RUNNING_FILE).read_bytes())
        endpoint = f"http://127.0.0.1:{port}"
        with Client(endpoint, _KEY, secret) as client:
            yield OctadServer(endpoint, _KEY, secret, running["coordinator"], client)
    finally:
        _stop(process)
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def own_bucket(client: Client) -> Iterator[Bucket]:
    """A new bucket, removed at the end with all that is in it."""
    bucket = client.create_bucket(f"test-{uuid4().hex}")
    yield bucket
    with suppress(BucketNotFound):  # The test has removed it.
        bucket.delete_many(entry.key for entry in bucket.list())
        client.delete_bucket(bucket.name)


def _started(data: Path, log: Path, secret: str) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(_PORTS_TRIED):
        port = free_ports(1)[0]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "octad.storage_node.dev.dev_of_tests"),
                    *(str(os.getpid()), "--data", str(data), "--nodes", "1"),
                    *("--s3-port", str(port), "--access-key", _KEY, "--secret-key", secret),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            if _serves(process, log):
                return process, port
        except BaseException:
            _stop(process)
            raise
    raise CannotStart(_said(log))


def _serves(process: subprocess.Popen[bytes], log: Path) -> bool:
    """False where its port was taken meanwhile."""
    deadline = time.monotonic() + START_S_MAX
    while _READY not in _said(log):
        if process.poll() is not None:
            if _TAKEN in _said(log):
                return False
            raise CannotStart(f"octad dev ended with {process.returncode}: {_said(log)}")
        if time.monotonic() > deadline:
            raise CannotStart(f"octad dev does not serve after {START_S_MAX:.0f} s: {_said(log)}")
        time.sleep(_POLL_S)
    return True


def _said(log: Path) -> str:
    return log.read_text(errors="replace")[-_SAID_CHARACTERS:].strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()  # Its node ends with it.
        process.wait()
