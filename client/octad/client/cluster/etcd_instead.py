"""Recognizes etcd's answers where a coordinator's were expected: the two run side by side."""

from __future__ import annotations

VERSION_PATH = "/version"  # Where etcd serves its version.
IS_ETCD = "is etcd, not a coordinator"


def is_etcd(version_answer: bytes) -> bool:
    """Whether etcd gave the answer to a GET of `VERSION_PATH`."""
    return b'"etcdserver"' in version_answer
