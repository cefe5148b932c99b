"""What lies at a place: names below it, with what decides whether two are the same."""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """A file or an object. `name`: below its folder or prefix, with `/` between parts.

    `modified_s`: since 1970. `etag`: of objects.
    """

    name: str
    size: int
    modified_s: float
    etag: str = ""


class Failure(NamedTuple):
    """What could not be carried, and why; the others are."""

    name: str
    reason: str


def bad_file_name(name: str) -> str:
    """Why an object's name can be no file's name below a folder; "" where it can.

    A key is what some client made it: `../../etc/passwd` is one, and must not leave the folder.
    """
    parts = name.split("/")
    if ".." in parts or "." in parts:
        return "a part of its key is . or .."
    if "" in parts:
        return "its key has an empty part (// or / at an end)"
    if "\0" in name:
        return "its key has a NUL"
    return ""
