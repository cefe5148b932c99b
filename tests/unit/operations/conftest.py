"""Of the tests of kinds of record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.operations import toy_kinds


@pytest.fixture
def toys() -> Iterator[None]:
    """This octad knows the toy kinds."""
    with toy_kinds.known():
        yield
