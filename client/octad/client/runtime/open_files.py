"""How many files and connections this process may have open at a time (RLIMIT_NOFILE).

The system gives a process a low limit, for the sake of programs that use select(), and lets it
raise that up to a hard one. octad and its libraries use epoll, so it raises it all the way.
"""

from __future__ import annotations

import errno
import resource
import sys
from typing import Final

from octad.client.runtime.command import CommandError

OPEN_FILES_MIN: Final = 1024
_MACOS_MAX: Final = 10_240  # macOS calls the hard limit infinite and grants this.
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)


def take_open_files() -> int:
    """Raise the limit as far as it goes, and return it; raises CommandError where it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, _MACOS_MAX):
        if _number(wanted) > _number(soft):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                break
            except (OSError, ValueError):
                continue
    limit = open_files_limit()
    if limit < OPEN_FILES_MIN:
        raise CommandError(
            f"octad needs {OPEN_FILES_MIN} open files, and this process may have {limit}",
            f"raise the limit: ulimit -n {OPEN_FILES_MIN}, or LimitNOFILE= in its systemd unit",
        )
    return limit


def open_files_limit() -> int:
    """The present limit."""
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def none_left(error: BaseException | None) -> bool:
    """Whether the error, or its cause, is a lack of descriptors."""
    while error is not None:
        # RocksDB's errors have no number, only the system's text in theirs.
        if isinstance(error, OSError) and error.errno in _NONE_LEFT:
            return True
        if "too many open files" in str(error).lower():
            return True
        error = error.__cause__
    return False


def more_open_files() -> str:
    """The one thing that helps then, for a message."""
    return (
        f"nothing is wrong with the disk: the limit of open files is {open_files_limit()}; raise it"
        " with ulimit -n, or LimitNOFILE= in the systemd unit"
    )


def _number(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
