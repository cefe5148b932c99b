"""Where and on what a figure was measured: machine, commit, and how much memory a process holds."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

KIB = 1024


def machine() -> str:
    """Processor, cores, memory, system: one line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / KIB**3
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit(repository: Path) -> str:
    """The short commit id, with `-dirty` when files differ from it."""
    try:
        head = _git(repository, "rev-parse", "--short", "HEAD")
        changed = _git(repository, "status", "--porcelain")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", repository, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def resident_mib(pid: int) -> float:
    """The memory of a process: its own, and its share of what it shares (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Pss":
            return int(rest.split()[0]) / KIB
    raise ValueError(f"process {pid} has no Pss line")
