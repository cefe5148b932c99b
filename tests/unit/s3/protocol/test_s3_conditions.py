"""Read conditions, one test per sentence of RFC 9110 §13 and of what S3 is known to answer."""

from __future__ import annotations

import pytest

from octad.client.s3.http_dates import http_date
from octad.storage_node.s3.protocol.conditions import etag_matches, range_applies, read_conditions

ETAG = "5d41402abc4b2a76b9719d911017c592"
MODIFIED_MS = 1_700_000_000_500
MATCH, NO_MATCH = f'"{ETAG}"', '"other"'
NOW_MS = MODIFIED_MS + 60_000
BEFORE, SAME, AFTER = (http_date(MODIFIED_MS + ms) for ms in (-60_000, 0, 60_000))
FUTURE = http_date(NOW_MS + 60_000)


def failed(**conditions: str) -> str | None:
    headers = {name.replace("_", "-"): value for name, value in conditions.items()}
    found = read_conditions(headers)
    assert found is not None
    return found.failed(ETAG, MODIFIED_MS, NOW_MS)


def test_a_request_without_conditions_has_none() -> None:
    assert read_conditions({"host": "h"}) is None


def test_if_match_holds_for_the_etag_only() -> None:
    assert failed(if_match=MATCH) is None
    assert failed(if_match=NO_MATCH) == "If-Match"


def test_if_none_match_fails_for_the_etag_only() -> None:
    assert failed(if_none_match=MATCH) == "If-None-Match"
    assert failed(if_none_match=NO_MATCH) is None


@pytest.mark.parametrize(
    "header", [MATCH, ETAG, f"W/{MATCH}", "*", f"{NO_MATCH}, {MATCH}", f"{NO_MATCH},{ETAG}"]
)
def test_an_etag_matches_quoted_bare_weak_among_others_and_any(header: str) -> None:
    assert etag_matches(header, ETAG)
    assert not etag_matches(NO_MATCH, ETAG)


def test_dates_are_compared_in_whole_seconds() -> None:
    assert failed(if_modified_since=SAME) == "If-Modified-Since"
    assert failed(if_unmodified_since=SAME) is None


def test_if_modified_since_holds_for_an_older_date() -> None:
    assert failed(if_modified_since=BEFORE) is None
    assert failed(if_modified_since=AFTER) == "If-Modified-Since"


def test_nobody_has_a_copy_of_the_future() -> None:
    assert failed(if_modified_since=FUTURE) is None
    assert failed(if_unmodified_since=FUTURE) is None


def test_if_unmodified_since_holds_for_a_newer_date() -> None:
    assert failed(if_unmodified_since=AFTER) is None
    assert failed(if_unmodified_since=BEFORE) == "If-Unmodified-Since"


def test_a_true_if_match_outweighs_a_false_if_unmodified_since() -> None:
    assert failed(if_match=MATCH, if_unmodified_since=BEFORE) is None


def test_a_false_if_none_match_outweighs_a_true_if_modified_since() -> None:
    assert failed(if_none_match=MATCH, if_modified_since=BEFORE) == "If-None-Match"


def test_a_true_if_none_match_outweighs_a_false_if_modified_since() -> None:
    assert failed(if_none_match=NO_MATCH, if_modified_since=AFTER) is None


def test_what_is_no_date_is_ignored() -> None:
    assert failed(if_modified_since="yesterday") is None
    assert failed(if_unmodified_since="yesterday") is None


def test_conditions_of_a_copy_are_found_by_their_prefix() -> None:
    headers = {"x-amz-copy-source-if-match": NO_MATCH}
    assert read_conditions(headers) is None
    found = read_conditions(headers, "x-amz-copy-source-")
    assert found is not None
    assert found.failed(ETAG, MODIFIED_MS, NOW_MS) == "If-Match"


def test_a_range_of_another_version_of_the_object_is_not_given() -> None:
    assert range_applies({}, ETAG, MODIFIED_MS)
    assert range_applies({"if-range": MATCH}, ETAG, MODIFIED_MS)
    assert range_applies({"if-range": SAME}, ETAG, MODIFIED_MS)
    assert not range_applies({"if-range": NO_MATCH}, ETAG, MODIFIED_MS)
    assert not range_applies({"if-range": AFTER}, ETAG, MODIFIED_MS)
