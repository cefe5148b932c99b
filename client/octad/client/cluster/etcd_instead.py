"""Where a coordinator was expected, etcd may answer: the two stand side by side."""

from __future__ import annotations

VERSION_PATH = "/version"  # Where etcd says which one it is.
IS_ETCD = "is etcd, not a coordinator"


def is_etcd(version_answer: bytes) -> bool:
    """Whether etcd gave the answer to a GET of `VERSION_PATH`."""
    return b'"etcdserver"' in version_answer
