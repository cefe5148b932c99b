"""What a listing's query asks for, and continuation tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.listing_requests import (
    decode_token,
    encode_token,
    first_upload_after,
    parse_list_buckets,
    parse_list_objects,
    parse_list_objects_v2,
    parse_list_parts,
    parse_list_uploads,
)


def code_of(error: pytest.ExceptionInfo[S3Error]) -> str:
    return error.value.code


def test_a_thousand_keys_are_the_default_and_the_most() -> None:
    assert parse_list_objects({}).max_keys == 1000
    assert parse_list_objects({"max-keys": "5000"}).max_keys == 1000
    assert parse_list_objects({"max-keys": "0"}).max_keys == 0


@pytest.mark.parametrize("value", ["-1", "ten", "1.5", "9" * 11, "2147483648", "１"])
def test_a_count_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_list_objects({"max-keys": value})
    assert code_of(refused) == "InvalidArgument"


@pytest.mark.parametrize("value", ["", "base64", "URL"])
def test_an_encoding_other_than_url_is_refused_as_recorded(value: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_list_objects({"encoding-type": value})
    assert refused.value.message == "Invalid Encoding Method specified in Request"


def test_a_token_outweighs_start_after_and_both_are_shown_again() -> None:
    token = encode_token(b"m")
    listing = parse_list_objects_v2(
        {"list-type": "2", "start-after": "a", "continuation-token": token}
    )
    assert listing.after == b"m"
    assert (listing.start_after, listing.continuation_token) == (b"a", token)


def test_the_owner_is_fetched_only_when_asked_for() -> None:
    assert not parse_list_objects_v2({"list-type": "2"}).fetch_owner
    assert parse_list_objects_v2({"list-type": "2", "fetch-owner": "true"}).fetch_owner


def test_there_is_no_list_type_but_2() -> None:
    with pytest.raises(S3Error) as refused:
        parse_list_objects_v2({"list-type": "3"})
    assert code_of(refused) == "InvalidArgument"


@given(st.binary(max_size=1024))
def test_a_token_leads_back_to_its_name(name: bytes) -> None:
    assert decode_token(encode_token(name)) == name


@given(st.text(max_size=40))
def test_no_text_is_a_token_by_accident(text: str) -> None:
    with pytest.raises(S3Error) as refused:
        decode_token(text)
    assert code_of(refused) == "InvalidArgument"


def test_a_spoilt_token_is_refused() -> None:
    token = encode_token(b"some/key")
    spoilt = token[:-3] + ("A" if token[-3] != "A" else "B") + token[-2:]
    with pytest.raises(S3Error):
        decode_token(spoilt)


def test_an_upload_id_marker_means_nothing_without_a_key_marker() -> None:
    assert parse_list_uploads({"upload-id-marker": "u"}).upload_id_marker == ""
    assert parse_list_uploads({"upload-id-marker": "u", "key-marker": "k"}).upload_id_marker == "u"


def test_a_key_marker_alone_is_past_all_uploads_of_that_key() -> None:
    listing = parse_list_uploads({"key-marker": "k"})
    assert first_upload_after(listing, b"") > (b"k", b"\xff" * 16)
    assert first_upload_after(listing, b"") < (b"k\x00", b"")


def test_a_key_marker_that_is_a_common_prefix_skips_all_under_it() -> None:
    listing = parse_list_uploads({"key-marker": "a/", "delimiter": "/"})
    assert (b"a/\xf4zzz", b"\xff" * 16) < first_upload_after(listing, b"") <= (b"a0", b"")


def test_parts_are_listed_from_a_marker_on() -> None:
    listing = parse_list_parts({"part-number-marker": "3", "max-parts": "2"})
    assert (listing.after, listing.max_parts) == (3, 2)


@pytest.mark.parametrize("value", ["0", "10001", "x"])
def test_buckets_are_listed_from_1_to_10000_at_a_time(value: str) -> None:
    assert parse_list_buckets({}).max_buckets == 10_000
    with pytest.raises(S3Error):
        parse_list_buckets({"max-buckets": value})
