"""A trace: the keys and sizes of real objects, one a line, `size<TAB>key`.

The size is in bytes, in decimal. The key is the rest of the line, as bytes, and may hold anything
but a line feed. Empty lines and lines that start with `#` are passed over. `du -ab`, `find -printf
'%s\\t%p\\n'` and `aws s3api list-objects-v2` with `--query` and `--output text` print this form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId
from octad.sharding.limits import KEY_BYTES_MAX, OBJECT_BYTES_MAX
from octad.sharding.study.rivals.bad_input import BadInput
from octad.sharding.study.rivals.mixing import Floats, Hashes

TRACE_BUCKET = BucketId(1)
LINE_BYTES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Objects:
    """The data to place: hashes of keys, and the bytes of each."""

    hashes: Hashes
    sizes: Floats


def synthetic(count: int) -> Objects:
    """`count` objects of one byte, with keys that are numbers."""
    hashes = [object_hash(TRACE_BUCKET, b"key-%d" % i) for i in range(count)]
    return Objects(np.array(hashes, dtype=np.uint64), np.ones(count))


def read_trace(path: Path) -> Objects:
    """The objects of a trace; raises BadInput with the number of the first bad line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror}", "name a file of `size<TAB>key` lines"
        ) from error
    hashes, sizes = [], []
    seen: set[bytes] = set()
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip() or line.startswith(b"#"):
            continue
        size, key = _parsed(line, f"{path} line {number}")
        if key in seen:
            raise BadInput(f"{path} line {number}: the key is there twice", "keep its last line")
        seen.add(key)
        hashes.append(object_hash(TRACE_BUCKET, key))
        sizes.append(size)
    if not sum(sizes):
        raise BadInput(
            f"{path} has no bytes to place", "give at least one object that is not empty"
        )
    return Objects(np.array(hashes, dtype=np.uint64), np.array(sizes, dtype=np.float64))


def _parsed(line: bytes, where: str) -> tuple[int, bytes]:
    size, tab, key = line.partition(b"\t")
    shown = line[:LINE_BYTES_SHOWN].decode("utf-8", "backslashreplace")
    if not tab or not key:
        raise BadInput(f"{where}: {shown!r} is not `size<TAB>key`", "write it so, or remove it")
    if not (size.isdigit() and int(size) <= OBJECT_BYTES_MAX):
        raise BadInput(
            f"{where}: {shown!r} does not start with a size in bytes",
            f"give a whole number up to {OBJECT_BYTES_MAX}",
        )
    if len(key) > KEY_BYTES_MAX:
        raise BadInput(f"{where}: a key of {len(key)} bytes", f"give at most {KEY_BYTES_MAX}")
    return int(size), key
