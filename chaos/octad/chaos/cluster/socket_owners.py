"""Which process has a loopback TCP socket, from Linux's /proc. Needs no privileges."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from octad.client.runtime.address import Address

_LOCAL, _REMOTE, _INODE = 1, 2, 9  # Columns of /proc/net/tcp.


def owner_of(local: Address, remote: Address, processes: Mapping[str, int]) -> str | None:
    """The name of the process (of `processes`, by name) that has this end of a connection."""
    inode = _inode_of(_hexadecimal(local), _hexadecimal(remote))
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for name, pid in processes.items():
        if _has(pid, wanted):
            return name
    return None


def _inode_of(local: str, remote: str) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[_LOCAL] == local and columns[_REMOTE] == remote:
            return columns[_INODE]
    return None


def _hexadecimal(address: Address) -> str:
    """The form in /proc: the address in the machine's byte order, and the port."""
    number = int.from_bytes(socket.inet_aton(address.host), sys.byteorder)
    return f"{number:08X}:{address.port:04X}"


def _has(pid: int, wanted: str) -> bool:
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(descriptor.readlink()) == wanted:
                    return True
            except FileNotFoundError:
                continue  # Closed meanwhile.
    except FileNotFoundError:
        pass  # The process has ended.
    return False
