"""ETags of files, as they will be once the SDK has put them: to see whether they are there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from octad.client.objects.sources import SINGLE_PUT_BYTES_MAX, part_bytes_of
from octad.sharding.limits import MIB


def etag_of(path: Path, size: int) -> str:
    """The MD5; of what goes up in parts, that of theirs. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        if size <= SINGLE_PUT_BYTES_MAX:
            return hashlib.file_digest(file, _md5).hexdigest()
        whole, count, part = _md5(), 0, part_bytes_of(size)
        while True:
            digest, left = _md5(), part
            while left and (piece := file.read(min(left, MIB))):
                digest.update(piece)
                left -= len(piece)
            if left == part:
                return f"{whole.hexdigest()}-{count}"
            whole.update(digest.digest())
            count += 1


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
