"""A bar on a terminal's standard error, and silence anywhere else."""

from __future__ import annotations

import sys

WIDTH = 40


def show(done: int, everything: int) -> None:
    """Draw the bar; at the end, wipe it away."""
    if not sys.stderr.isatty():
        return
    if done >= everything:
        sys.stderr.write("\r\033[K")
    else:
        filled = WIDTH * done // everything
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{everything}")
    sys.stderr.flush()
