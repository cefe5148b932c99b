"""Who owns buckets: an owner's name, and the canonical id that S3 shows for it.

The id is the SHA-256 of the cluster's id and the name, in hex: the same for ever, and another one
in another cluster.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

# Never twelve digits alone, which would be an account of AWS, nor as long as a canonical id.
_NAME: Final = re.compile(r"(?!\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def is_owner_name(name: str) -> bool:
    """Whether an owner may be called so."""
    return _NAME.fullmatch(name) is not None


@lru_cache(4096)
def canonical_id(cluster: str, owner: str) -> str:
    """S3's canonical user id: 64 hexadecimal digits."""
    return hashlib.sha256(f"{cluster}/{owner}".encode()).hexdigest()
