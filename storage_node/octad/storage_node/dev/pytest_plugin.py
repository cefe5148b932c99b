"""The pytest plugin: fixtures `octad` and `octad_bucket`, a real cluster for the tests of others.

One node, with its data in a temporary directory, for each process of the tests: with pytest-xdist
each worker has its own. Nothing is started, or even imported, before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from octad.client.objects.bucket import Bucket
    from octad.storage_node.dev.server_for_tests import OctadServer


@pytest.fixture(scope="session")
def octad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OctadServer]:
    """A running cluster of one node: `endpoint`, `access_key`, `secret_key`, `client`.

    All tests of the process share it; `octad_bucket` is a test's own.
    """
    from octad.storage_node.dev.server_for_tests import running_server

    with running_server(tmp_path_factory.mktemp("octad")) as server:
        yield server


@pytest.fixture
def octad_bucket(octad: OctadServer) -> Iterator[Bucket]:
    """A bucket of the test's own, removed with all that is in it: an `octad.Bucket`."""
    from octad.storage_node.dev.server_for_tests import own_bucket

    with own_bucket(octad.client) as bucket:
        yield bucket
