"""Ranges as S3 answers them: malformed, reversed and several mean the whole object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.ranges import (
    parse_copy_range,
    parse_part_number,
    parse_range,
    part_range,
)

SIZES = st.integers(0, 30)
NUMBERS = st.none() | st.integers(0, 40)


def test_a_range_names_first_and_last_byte() -> None:
    assert parse_range("bytes=2-5", 10) == (2, 6)


def test_a_range_may_have_no_end() -> None:
    assert parse_range("bytes=2-", 10) == (2, 10)


def test_a_suffix_is_the_last_bytes() -> None:
    assert parse_range("bytes=-3", 10) == (7, 10)


def test_a_range_past_the_end_is_cut() -> None:
    assert parse_range("bytes=2-99", 10) == (2, 10)
    assert parse_range("bytes=-99", 10) == (0, 10)


@pytest.mark.parametrize(
    "header",
    [
        "bytes=5-2",
        "bytes=0-1,3-4",
        "bytes=-",
        "bytes=a-b",
        "bytes 0-1",
        "lines=0-1",
        "0-1",
        "",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=²-3",
    ],
)
def test_malformed_reversed_and_several_ranges_are_the_whole_object(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=99-1", "bytes=-0"])
def test_a_range_outside_is_refused_with_what_was_asked_and_what_there_is(header: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_range(header, 10)
    assert refused.value.http_status == 416
    assert dict(refused.value.fields) == {"RangeRequested": header, "ActualObjectSize": "10"}


LONG = [str(2**63 - 2), str(2**63 - 1), str(2**64 - 1), "9" * 5000]


@pytest.mark.parametrize("number", LONG)
def test_a_number_may_be_longer_than_any_object(number: str) -> None:
    assert parse_range(f"bytes=6-{number}", 10) == (6, 10)
    assert parse_range(f"bytes=-{number}", 10) == (0, 10)
    for header in (f"bytes={number}-", f"bytes={number}-{number}", f"bytes={number}-1"):
        with pytest.raises(S3Error) as refused:
            parse_range(header, 10)
        assert refused.value.code == "InvalidRange"


def test_zeros_before_a_number_do_not_make_it_longer() -> None:
    zeros = "0" * 5000
    assert parse_range(f"bytes={zeros}2-{zeros}5", 10) == (2, 6)
    assert parse_copy_range(f"bytes={zeros}2-{zeros}5", 10) == (2, 6)
    with pytest.raises(S3Error):
        parse_range(f"bytes=-{zeros}", 10)


@pytest.mark.parametrize("number", LONG)
def test_a_copy_range_ends_inside_however_long_its_numbers_are(number: str) -> None:
    with pytest.raises(S3Error, match="not valid for source object of size: 10"):
        parse_copy_range(f"bytes=0-{number}", 10)


def test_the_last_bytes_of_an_empty_object_are_all_of_it() -> None:
    assert parse_range("bytes=-5", 0) is None


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-", "bytes=-0"])
def test_no_range_lies_in_an_empty_object(header: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_range(header, 0)
    assert refused.value.code == "InvalidRange"


@given(NUMBERS, NUMBERS, SIZES)
def test_a_range_is_what_counting_bytes_says(
    first: int | None, last: int | None, size: int
) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is not None:
        wanted = [at for at in range(size) if at >= first and (last is None or at <= last)]
        whole = last is not None and last < first and first < size
    else:
        wanted = list(range(size))[-last:] if last else []
        whole = last is None or (last > 0 and size == 0)
    if whole:
        assert parse_range(header, size) is None
    elif not wanted:
        with pytest.raises(S3Error):
            parse_range(header, size)
    else:
        assert parse_range(header, size) == (wanted[0], wanted[-1] + 1)


def test_a_copy_range_is_strict() -> None:
    assert parse_copy_range("bytes=0-9", 10) == (0, 10)
    for header in ("bytes=0-10", "bytes=5-4", "bytes=0-", "bytes=-3", "0-3", "bytes=0-1,2-3"):
        with pytest.raises(S3Error) as refused:
            parse_copy_range(header, 10)
        assert refused.value.code == "InvalidArgument"


@pytest.mark.parametrize("text", ["0", "10001", "-1", "a", "", "1.0", "³", "9" * 5000])
def test_a_part_number_is_from_1_to_10000(text: str) -> None:
    assert (parse_part_number("1"), parse_part_number("10000")) == (1, 10_000)
    with pytest.raises(S3Error) as refused:
        parse_part_number(text)
    assert refused.value.code == "InvalidArgument"


def test_a_part_is_where_the_parts_before_it_end() -> None:
    assert [part_range(n, (5, 3, 2), 10) for n in (1, 2, 3)] == [(0, 5), (5, 8), (8, 10)]


def test_an_object_put_whole_is_its_own_first_part() -> None:
    assert part_range(1, (), 7) == (0, 7)


@pytest.mark.parametrize("sizes", [(), (5, 5)])
def test_a_part_beyond_the_last_is_416(sizes: tuple[int, ...]) -> None:
    with pytest.raises(S3Error) as refused:
        part_range(len(sizes) + 2, sizes, 10)
    assert (refused.value.code, refused.value.http_status) == ("InvalidPartNumber", 416)
