"""The etcd and coordinators of `tests/cluster/coordinator/conftest.py`."""

from __future__ import annotations

from tests.cluster.coordinator.conftest import etcd, start

__all__ = ["etcd", "start"]
