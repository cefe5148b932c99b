"""Dates in the three spellings of S3."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.http_dates import (
    amz_date,
    http_date,
    iso_date,
    parse_amz_date,
    parse_http_date,
)

SECONDS = st.integers(0, 4_102_444_799)  # Up to the end of 2099.


@given(SECONDS, st.integers(0, 999))
def test_every_spelling_is_the_standard_librarys(second: int, ms: int) -> None:
    moment = datetime.fromtimestamp(second, UTC)
    assert http_date(second * 1000 + ms) == formatdate(second, usegmt=True)
    assert iso_date(second * 1000 + ms) == f"{moment:%Y-%m-%dT%H:%M:%S}.{ms:03}Z"
    assert amz_date(second) == f"{moment:%Y%m%dT%H%M%S}Z"


@given(SECONDS)
def test_what_is_written_is_read(second: int) -> None:
    assert parse_http_date(http_date(second * 1000)) == second
    assert parse_amz_date(amz_date(second)) == second


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 08:49:37 +0000",
    ],
)
def test_all_three_forms_of_http_are_read_and_the_one_that_boto3_signs(text: str) -> None:
    assert parse_http_date(text) == 784_111_777


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT trailing",
        "Sun, 06 Nov 1994 08:49:37 +0100",
    ],
)
def test_what_is_no_http_date_is_none(text: str) -> None:
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    "text", ["", "20130524T000000", "20130524 000000Z", "20130532T000000Z", "2013-5-24T00:00Z"]
)
def test_what_is_no_amz_date_is_none(text: str) -> None:
    assert parse_amz_date(text) is None
