"""Files of this machine: those below a folder, and new ones that are whole from the beginning."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from octad.client.cli.transfers.items import Failure, Item
from octad.client.objects.ranges import UNFINISHED

_UNFINISHED: Final = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(UNFINISHED)}$")


class _Folder(NamedTuple):
    """`above`: the folders that led here, lest a link to one of them is followed for ever."""

    path: str
    prefix: str
    above: frozenset[tuple[int, int]]


def items_below(folder: Path) -> tuple[list[Item], list[Failure]]:
    """All files below, by name, symbolic links followed; and what could not be read."""
    items: list[Item] = []
    failures: list[Failure] = []
    ahead = [_Folder(os.fspath(folder), "", frozenset())]
    while ahead:
        ahead += _look_into(ahead.pop(), items, failures)
    items.sort()
    return items, failures


def item_of(path: Path) -> Item:
    """Raises OSError."""
    found = path.stat()
    return Item(path.name, found.st_size, found.st_mtime)


def write_whole(path: str, data: bytes, modified_s: float) -> None:
    """Under its final name only once all of it is there. Raises OSError."""
    folder, name = os.path.split(path)
    unfinished = os.path.join(folder, f".{name[:200]}.{os.urandom(4).hex()}{UNFINISHED}")  # noqa: PTH118 (a path object costs more than writing)
    try:
        with open(unfinished, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.utime(unfinished, (modified_s, modified_s))
        os.replace(unfinished, path)  # noqa: PTH105 (as above)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)  # noqa: PTH108 (as above)
        raise


def _look_into(folder: _Folder, items: list[Item], failures: list[Failure]) -> list[_Folder]:
    """Adds the files of one folder; returns the folders in it."""
    try:
        status = os.stat(folder.path)  # noqa: PTH116 (as in `write_whole`)
        identity = (status.st_dev, status.st_ino)
        if identity in folder.above:
            failures.append(Failure(folder.path, "it is a link to a folder that it is in"))
            return []
        entries = list(os.scandir(folder.path))
    except OSError as error:
        failures.append(Failure(folder.path, error.strerror or str(error)))
        return []
    above = folder.above | {identity}
    inner = []
    for entry in entries:
        name = f"{folder.prefix}{entry.name}"
        try:
            if entry.is_dir():
                inner.append(_Folder(entry.path, f"{name}/", above))
                continue
            found = entry.stat()
        except OSError as error:
            failures.append(Failure(entry.path, error.strerror or str(error)))
            continue
        if not stat.S_ISREG(found.st_mode):
            failures.append(Failure(entry.path, "it is no regular file"))
        elif _UNFINISHED.search(entry.name) is None:
            items.append(Item(name, found.st_size, found.st_mtime))
    return inner
