"""Forms, as bytes: however they are cut, they say the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.forms.form_parts import (
    FIELDS_BYTES_MAX,
    FileDecoder,
    FormHead,
    boundary_of,
    is_form,
    read_form_head,
)

BOUNDARY = b"x-y"
NAMES = st.text("abcK-", min_size=1, max_size=5).filter(lambda name: name.lower() != "file")
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20)
# Bytes that look like boundaries are likelier than chance would have them.
FILES = st.lists(
    st.sampled_from([b"\r\n--x-", b"\r\n", b"\r", b"--x-y", b"\r\n--", b"a", b"\0"])
    | st.binary(max_size=9)
).map(b"".join)


def form(fields: dict[str, str], file: bytes, filename: str = "f") -> bytes:
    parts = [
        f'--x-y\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    last = f'--x-y \r\nContent-Disposition: form-data; name="File"; filename="{filename}"\r\n\r\n'
    return b"".join([*parts, last.encode(), file, b"\r\n--x-y--\r\n"])


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(at)]


def decoded(pieces: list[bytes], size_max: int = 1 << 30) -> bytes:
    decoder = FileDecoder(BOUNDARY, 1 << 30, 0, size_max)
    out = b"".join(bytes(some) for piece in pieces for some in decoder.feed(memoryview(piece)))
    decoder.finish()
    assert decoder.size == len(out)
    return out


@given(st.dictionaries(NAMES, VALUES, max_size=4), FILES, st.lists(st.integers(0, 10_000)))
def test_any_cut_of_the_bytes_gives_the_same_form(
    fields: dict[str, str], file: bytes, cuts: list[int]
) -> None:
    lowered = {name.lower(): value for name, value in fields.items()}
    if len(lowered) < len(fields) or b"\r\n--x-y" in file:
        return
    data = form(fields, file)
    whole = read_form_head(data, BOUNDARY)
    assert whole is not None
    assert whole.fields == lowered
    for end in range(whole.size):
        assert read_form_head(data[:end], BOUNDARY) is None
    for end in range(whole.size, len(data)):
        assert read_form_head(data[:end], BOUNDARY) == whole
    rest = data[whole.size :]
    assert decoded([rest]) == decoded(pieces_of(rest, cuts)) == file
    assert decoded([rest[at : at + 1] for at in range(len(rest))]) == file


@given(st.binary(max_size=400) | FILES, st.lists(st.integers(0, 1000)))
def test_whatever_comes_is_read_or_refused_and_the_same_however_it_comes(
    data: bytes, cuts: list[int]
) -> None:
    def read(so_far: bytes) -> FormHead | str | None:
        try:
            return read_form_head(b"--x-y\r\n" + so_far, BOUNDARY)
        except S3Error as error:
            return error.code

    outcome, so_far = read(data), b""
    for piece in pieces_of(data, cuts):
        so_far += piece
        found = read(so_far)
        assert found in (None, outcome)
        if found is not None:
            return
    assert outcome is None


def test_a_file_without_its_end_is_refused_and_what_follows_it_is_not_read() -> None:
    for rest in (b"", b"data", b"data\r\n--x-", b"data\r\n--x"):
        with pytest.raises(S3Error, match="MalformedPOSTRequest"):
            decoded([rest])
    assert decoded([b"data\r\n--x-y\r\n", b"more\r\n--x-y--"]) == b"data"


def test_a_file_that_is_too_large_is_refused_before_its_end() -> None:
    decoder = FileDecoder(BOUNDARY, 1 << 30, 0, 10)
    decoder.feed(b"0123456789")
    with pytest.raises(S3Error, match="EntityTooLarge"):
        decoder.feed(b"0")


def test_the_file_name_is_the_last_of_its_path() -> None:
    for name, told in (("a.jpg", "a.jpg"), (r"C:\b\a.jpg", "a.jpg"), ("/tmp/a.jpg", "a.jpg")):
        head = read_form_head(form({}, b"", name), BOUNDARY)
        assert head is not None
        assert head.filename == told


@pytest.mark.parametrize(
    "part",
    [
        b"\r\n\r\nvalue\r\n",  # Without a name.
        b'content-disposition: form-data; filename="a"\r\n\r\nvalue\r\n',
        b'content-disposition: attachment; name="a"\r\n\r\nvalue\r\n',
        b'content-disposition: form-data; name="a"\r\n\r\n\xff\r\n',
        b'content-disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n',
    ],
)
def test_a_part_that_no_one_could_sign_is_refused(part: bytes) -> None:
    with pytest.raises(S3Error, match="MalformedPOSTRequest"):
        read_form_head(b"--x-y\r\n" + part + form({}, b""), BOUNDARY)


def test_a_field_that_comes_twice_is_refused() -> None:
    again = b'--x-y\r\ncontent-disposition: form-data; name="A"\r\n\r\n2\r\n'
    with pytest.raises(S3Error, match="MalformedPOSTRequest"):
        read_form_head(again + form({"a": "1"}, b""), BOUNDARY)


def test_the_fields_have_a_bound_however_they_come() -> None:
    data = form({"a": "x" * FIELDS_BYTES_MAX}, b"")
    for seen in (data, data[: FIELDS_BYTES_MAX + 1]):
        with pytest.raises(S3Error, match="MaxPostPreDataLengthExceeded"):
            read_form_head(seen, BOUNDARY)
    assert read_form_head(data[:FIELDS_BYTES_MAX], BOUNDARY) is None


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("multipart/form-data;boundary=abc; charset=utf-8", b"abc"),
    ],
)
def test_the_boundary_is_where_clients_put_it(content_type: str, boundary: bytes) -> None:
    assert is_form(content_type)
    assert boundary_of(content_type) == boundary
    assert not is_form("application/x-www-form-urlencoded")
