"""Whatever arrives: both ways answer alike and leave the same, all at once or byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.s3.ways.requests_of_all_kinds import CORPUS, REQUESTS
from tests.unit.s3.ways.twin_doors import TwinDoors, open_doors


@pytest.fixture(scope="module")
def doors() -> Iterator[TwinDoors]:
    with open_doors() as doors:
        yield doors


@pytest.mark.parametrize("ends", [True, False], ids=["the client ends", "the client stays"])
@pytest.mark.parametrize("what", CORPUS)
def test_both_ways_agree_about_what_is_kept(doors: TwinDoors, what: str, ends: bool) -> None:
    doors.compare(CORPUS[what], ends=ends)


@settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(sent=REQUESTS, ends=st.booleans())
def test_both_ways_agree_about_anything(doors: TwinDoors, sent: bytes, ends: bool) -> None:
    doors.compare(sent, ends=ends)
