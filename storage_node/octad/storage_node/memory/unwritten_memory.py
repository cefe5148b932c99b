"""Memory for bytes that are about to come: zeros first would take as long as to receive them.

What it holds until then is whatever was there before: show no one what was not written.
"""

from __future__ import annotations

import ctypes
from typing import cast

_new = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new.restype = ctypes.py_object
_new.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t)


def unwritten(size: int) -> bytearray:
    """`size` bytes of no known value."""
    return cast(bytearray, _new(None, size))
