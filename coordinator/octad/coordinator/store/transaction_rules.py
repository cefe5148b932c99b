"""Checks of transactions common to all stores, so that none accepts what another refuses."""

from __future__ import annotations

from collections.abc import Sequence

from octad.coordinator.store.interface import Compare, Put, StoreOperation
from octad.sharding.limits import STORE_TRANSACTION_BYTES_MAX, STORE_TRANSACTION_OPERATIONS_MAX


def check_transaction(compares: Sequence[Compare], operations: Sequence[StoreOperation]) -> None:
    """Raises ValueError: a caller's mistake, which no retry will cure."""
    if max(len(compares), len(operations)) > STORE_TRANSACTION_OPERATIONS_MAX:
        raise ValueError(
            f"{len(compares)} compares and {len(operations)} operations: "
            f"at most {STORE_TRANSACTION_OPERATIONS_MAX} of each"
        )
    size_bytes = sum(len(step.key.encode()) for step in (*compares, *operations))
    size_bytes += sum(len(step.value) for step in operations if isinstance(step, Put))
    if size_bytes > STORE_TRANSACTION_BYTES_MAX:
        raise ValueError(f"{size_bytes} bytes: at most {STORE_TRANSACTION_BYTES_MAX}")
    if not all(step.key for step in (*compares, *operations)):
        raise ValueError("a key is empty")
    if len({operation.key for operation in operations}) < len(operations):
        raise ValueError("a key is changed twice in one transaction")
