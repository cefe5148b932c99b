"""How often this process has forked away from what it was: sockets of before belong to the parent.

A socket that both used would mix their requests. So what holds one remembers `generation()`, and
where that has changed, leaves it alone.
"""

from __future__ import annotations

import os

_forks = 0


def generation() -> int:
    """Another number in a child than in its parent."""
    return _forks


def _in_child() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
