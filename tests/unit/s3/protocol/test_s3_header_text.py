"""Values of headers that are not ASCII: what goes out is, and says the same."""

from __future__ import annotations

from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.s3.protocol.object_headers import object_lines, unmodified_lines
from octad.storage_node.s3.protocol.requests.header_text import ascii_value


def as_read(text: str) -> str:
    """What a server reads of a header that a client writes in UTF-8."""
    return text.encode().decode("latin-1")


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), max_size=200))
def test_encoded_words_say_what_was_sent(text: str) -> None:
    written = ascii_value(as_read(text))
    assert written.isascii()
    if text.isascii():
        assert written == text
    else:
        assert str(make_header(decode_header(written))) == text
        assert all(len(word) <= 75 for word in written.split(" "))


def test_bytes_that_are_no_utf_8_are_latin_1() -> None:
    assert str(make_header(decode_header(ascii_value("Mini\xf6")))) == "Miniö"


@pytest.mark.parametrize("name", ["x-amz-meta-a", "content-disposition", "cache-control"])
def test_no_answer_has_a_head_that_is_not_ascii(name: str) -> None:
    row = ObjectRow(1, "e", 1, {name: as_read("Miniö 日本"), "x-amz-meta-b": "plain"})
    assert object_lines(row, {}).isascii()
    assert "x-amz-meta-b: plain\r\n" in object_lines(row, {})
    assert object_lines(row, {"content-type": as_read("ü")}).isascii()
    assert unmodified_lines(row, {}).isascii()


def test_not_modified_says_how_long_a_copy_is_fresh() -> None:
    row = ObjectRow(1, "e", 1, {"cache-control": "max-age=1", "expires": "x", "content-type": "t"})
    assert "cache-control: max-age=1\r\nexpires: x\r\n" in unmodified_lines(row, {})
    assert "content-type" not in unmodified_lines(row, {})
    assert "cache-control: no-cache\r\n" in unmodified_lines(row, {"cache-control": "no-cache"})
