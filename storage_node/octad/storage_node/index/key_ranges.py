"""Ranges of keys, in the order of their bytes."""

from __future__ import annotations


def past(prefix: bytes) -> bytes | None:
    """The least key above every key that starts with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
