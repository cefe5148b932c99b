"""Bucket names, rule by rule of the Amazon S3 user guide."""

from __future__ import annotations

import pytest

from octad.storage_node.s3.protocol.requests.names import is_bucket_name


@pytest.mark.parametrize(
    "name", ["abc", "a-b.c", "0ab", "a" * 63, "my.bucket.1", "192.168.5.4a", "1.2.3", "a--b"]
)
def test_these_are_bucket_names(name: str) -> None:
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("ab", "at least 3 characters"),
        ("a" * 64, "at most 63 characters"),
        ("Abc", "no upper case"),
        ("a_b", "no underscore"),
        ("a b", "no space"),
        ("äbc", "no letters but English ones"),
        ("-abc", "begins with a letter or digit"),
        ("abc-", "ends with a letter or digit"),
        (".abc", "begins with a letter or digit"),
        ("abc.", "ends with a letter or digit"),
        ("a..b", "no two periods in a row"),
        ("192.168.5.4", "no IP address"),
        ("xn--abc", "no reserved prefix"),
        ("sthree-abc", "no reserved prefix"),
        ("amzn-s3-demo-abc", "no reserved prefix"),
        ("abc-s3alias", "no reserved suffix"),
        ("abc--ol-s3", "no reserved suffix"),
        ("abc.mrap", "no reserved suffix"),
        ("abc--x-s3", "no reserved suffix"),
        ("abc--table-s3", "no reserved suffix"),
        ("abc\n", "nothing behind the end"),
        ("", "not nothing"),
    ],
)
def test_these_break_a_rule(name: str, rule: str) -> None:
    assert not is_bucket_name(name), rule
