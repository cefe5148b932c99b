"""Which tags an object may have, and how a header names them."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.tags import (
    TAGS_MAX,
    checked_tags,
    copies_tags,
    tags_in_header,
)

TEXTS = st.text(st.characters(categories=["L", "N", "Z"], include_characters="+-=._:/@"))
NAMES = TEXTS.filter(lambda text: 1 <= len(text) <= 128 and not text.lower().startswith("aws:"))


def code_of(call: object, *given: object) -> str:
    assert callable(call)
    with pytest.raises(S3Error) as refused:
        call(*given)
    assert refused.value.http_status == 400
    return refused.value.code


@given(st.dictionaries(NAMES, TEXTS, max_size=TAGS_MAX))
def test_a_header_names_tags_as_a_query_does(tags: dict[str, str]) -> None:
    assert tags_in_header(urlencode(tags)) == tags
    assert list(tags_in_header(urlencode(tags))) == sorted(tags)


def test_a_tag_needs_no_value_and_a_blank_may_be_a_plus() -> None:
    assert tags_in_header("foo=bar&bar") == {"bar": "", "foo": "bar"}
    assert tags_in_header("a+b=c%20d&") == {"a b": "c d"}
    assert tags_in_header("ü=ß".encode().decode("latin-1")) == {"ü": "ß"}


@pytest.mark.parametrize("header", ["a=1&a=2", "a=%ff", "%c3=1", "a=\xff"])
def test_a_header_that_is_no_query_of_distinct_names_is_refused(header: str) -> None:
    assert code_of(tags_in_header, header) == "InvalidArgument"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "a"),
        ("a" * 129, ""),
        ("a", "b" * 257),
        ("a\n", ""),
        ("a", "\t"),
        ("a", "b&c"),
        ("a?", ""),
        ("aws:a", ""),
        ("AWS:a", ""),
        ("a", "\U0001f600"),
    ],
)
def test_a_tag_that_s3_does_not_allow_is_invalid(name: str, value: str) -> None:
    assert code_of(checked_tags, [(name, value)]) == "InvalidTag"


def test_the_longest_and_the_most_tags_are_allowed() -> None:
    most = [(f"{n}".rjust(128, "ü"), "v" * 256) for n in range(TAGS_MAX)]
    assert checked_tags(most) == dict(most)
    assert code_of(checked_tags, [*most, ("one", "more")]) == "InvalidTag"


def test_a_name_twice_is_invalid() -> None:
    assert code_of(checked_tags, [("a", "1"), ("a", "1")]) == "InvalidTag"


def test_a_copy_has_the_tags_of_its_source_unless_it_is_to_have_others() -> None:
    assert copies_tags({})
    assert copies_tags({"x-amz-tagging-directive": "COPY"})
    assert not copies_tags({"x-amz-tagging-directive": "REPLACE"})
    assert code_of(copies_tags, {"x-amz-tagging-directive": "replace"}) == "InvalidArgument"
