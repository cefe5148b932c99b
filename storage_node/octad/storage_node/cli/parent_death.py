"""A node that was started by a supervisor ends with it, so that no one else ever meets its process.

On Linux the kernel does it, the moment the parent is gone, regardless of the node's state; it is
like any kill. It means the thread that started the process, so a supervisor starts nodes in its
main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def kill_with_parent(parent: int) -> bool:
    """Make this process end with `parent`; False if the system does not support it.

    Raises ProcessLookupError when `parent` is gone already.
    """
    asked = sys.platform == "linux" and _ask_kernel()
    if os.getppid() != parent:  # Asked afterwards, so that it cannot go unnoticed in between.
        raise ProcessLookupError(f"process {parent} is not the parent any more")
    return asked


def _ask_kernel() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0)
