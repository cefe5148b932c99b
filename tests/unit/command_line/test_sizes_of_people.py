"""Sizes as people type them."""

from __future__ import annotations

import pytest

from octad.client.cli.format_units import parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("10B", 10),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("10GiB", 10 << 30),
        ("10g", 10 << 30),
        ("1.5T", 3 << 39),
        ("0.1KB", 100),
        ("2PiB", 2 << 50),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1e9", "10 XB", "1..5", "١", "1iB", "9" * 30])
def test_what_is_no_size_is_none(text: str) -> None:
    assert parse_bytes(text) is None
