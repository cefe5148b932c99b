"""The limit of open files: taken as far as it goes, named where it does not suffice."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.client.runtime.open_files import more_open_files, none_left, open_files_limit

OCTAD = Path(sys.executable).with_name("octad")
_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
os.execv(sys.argv[1], sys.argv[1:])
"""


def run_limited(soft: int, hard: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command under limits of its own."""
    return subprocess.run(
        [sys.executable, "-c", _LIMITED.format(soft=soft, hard=hard), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = "from octad.client.runtime.open_files import *; print(take_open_files())"
    assert run_limited(256, 1500, sys.executable, "-c", code).stdout == "1500\n"


@pytest.mark.parametrize(
    "command",
    [
        ["node", "--data", "{data}", "--join-token", "{token}"],
        ["dev", "--data", "{data}"],
        ["coordinator", "--etcd", "http://127.0.0.1:1"],
    ],
    ids=["node", "dev", "coordinator"],
)
def test_a_process_that_may_open_too_few_files_says_so_before_it_begins(
    command: list[str], tmp_path: Path
) -> None:
    token = encode_join_token(JoinToken("0123abcd", bytes(32)))
    data = tmp_path / "data"
    filled = [each.format(data=data, token=token) for each in command]
    done = run_limited(256, 512, OCTAD, *filled)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "512" in done.stderr
    assert "ulimit -n 1024" in done.stderr
    assert not data.exists()


def test_want_of_descriptors_is_told_from_a_bad_disk_also_in_the_words_of_rocksdb() -> None:
    assert none_left(OSError(errno.EMFILE, "Too many open files"))
    assert none_left(OSError(errno.ENFILE, "Too many open files in system"))
    wrapped = RuntimeError("the journal has failed")
    wrapped.__cause__ = OSError(errno.EMFILE, "…")
    assert none_left(wrapped)
    assert none_left(
        Exception(
            "IO error: While open a file for appending: /d/index/000012.sst: Too many open files"
        )
    )
    assert not none_left(OSError(errno.EIO, "Input/output error"))
    assert not none_left(Exception("Corruption: block checksum mismatch"))
    assert not none_left(None)


def test_the_message_names_the_limit_and_how_to_raise_it() -> None:
    said = more_open_files()
    assert str(open_files_limit()) in said
    assert "ulimit -n" in said
    assert "LimitNOFILE=" in said
