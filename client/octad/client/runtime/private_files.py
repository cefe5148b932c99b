"""Makes the servers' files private to their owner: objects, secrets, logs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from octad.client.runtime.shown_command import shown_path

OTHERS = 0o077

log = logging.getLogger(__name__)


def keep_files_private() -> None:
    """Files that this process creates from now on, also by libraries, are private to its user."""
    os.umask(OTHERS)


def close_to_others(directory: Path) -> None:
    """The same for existing files, made by an earlier octad or copied there.

    Files of another user (the root of a volume, say) stay open and are logged: that is no reason
    not to serve.
    """
    left = [path for path in (*_within(directory), directory) if not _is_closed(path)]
    if left:
        log.warning(
            "other users of this machine may read %s: it is not ours; as its owner: chmod go= %s",
            left[0],
            shown_path(left[0]),
        )


def _within(directory: Path) -> Iterator[Path]:
    """Yields files that others may read; a directory comes after its entries."""
    for entry in directory.iterdir():
        if entry.is_symlink() or not entry.stat().st_mode & OTHERS:
            continue
        if entry.is_dir() and os.access(entry, os.R_OK):
            yield from _within(entry)
        yield entry


def _is_closed(path: Path) -> bool:
    mode = path.stat().st_mode & 0o7777
    if mode & OTHERS:
        try:
            path.chmod(mode & ~OTHERS)
        except PermissionError:
            return False
    return True
