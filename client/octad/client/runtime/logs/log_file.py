"""The file that takes all that a process prints: bounded, with those before it beside it.

    n1.log ─► n1.log.1 ─► n1.log.2 ─► n1.log.3 ─► gone

It is the process's stdout and stderr themselves, so it also has what the interpreter or a library
in C says in a crash. Whoever writes into it changes files, by a thread that puts a new one behind
the same descriptors: no line is lost between two files, none waits for another process that may be
frozen or gone, and the newest lines are always there.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from octad.sharding.limits import MIB

LOG_FILE_VARIABLE = "OCTAD_LOG_FILE"  # The starter of a process with such a file names it here.
LOG_FILES_MAX: Final = 4
# All of them fill half of the 64 MiB a node may log: the rest is for what a flood of 100 MiB/s
# writes between two looks, and for the two MiB of RocksDB.
LOG_FILE_BYTES_MAX: Final = 8 * MIB
_LOOK_S: Final = 0.1
_STDOUT, _STDERR = 1, 2


def open_log(path: Path, bytes_max: int = LOG_FILE_BYTES_MAX) -> BinaryIO:
    """To append to; a new file when the one before was full."""
    with suppress(FileNotFoundError):
        if path.stat().st_size >= bytes_max:
            _shift(path, bytes_max)
    return open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)


def keep_output_bounded(path: Path, bytes_max: int = LOG_FILE_BYTES_MAX) -> None:
    """Bound `path` from now on if it is this process's stderr; else do nothing."""
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), os.fstat(_STDERR)):
            threading.Thread(
                target=_watch, args=(path, bytes_max), name="log file", daemon=True
            ).start()


def _watch(path: Path, bytes_max: int) -> None:
    while True:
        time.sleep(_LOOK_S)
        if os.fstat(_STDERR).st_size < bytes_max:
            continue
        # Without a descriptor or room for a new file: retried at the next look.
        with suppress(OSError), open_log(path, bytes_max) as new:
            os.dup2(new.fileno(), _STDOUT)
            os.dup2(new.fileno(), _STDERR)


def _shift(path: Path, bytes_max: int) -> None:
    """Delete the oldest, and those that exceed the bound after a flood."""
    for age in range(LOG_FILES_MAX - 1, 0, -1):
        with suppress(FileNotFoundError):
            _older(path, age - 1).replace(_older(path, age))
    room_bytes = LOG_FILES_MAX * bytes_max
    for age in range(1, LOG_FILES_MAX):
        with suppress(FileNotFoundError):
            room_bytes -= _older(path, age).stat().st_size
            if room_bytes < 0 and age > 1:
                _older(path, age).unlink()
            elif room_bytes < 0:
                _keep_end(_older(path, age), bytes_max)


def _keep_end(log: Path, bytes_max: int) -> None:
    """Keep the end of a file left by an octad without a bound, or by a flood between two looks."""
    with log.open("rb") as file:
        file.seek(-bytes_max, os.SEEK_END)
        end = file.read(bytes_max)
    log.write_bytes(end)


def _older(path: Path, age: int) -> Path:
    return path.with_name(f"{path.name}.{age}") if age else path
