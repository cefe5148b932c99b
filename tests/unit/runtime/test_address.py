"""host:port, as people type it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.runtime.address import Address, BadAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9400", Address("127.0.0.1", 9400)),
        ("storage-1.rack_2.example:1", Address("storage-1.rack_2.example", 1)),
        ("[::1]:0", Address("::1", 0)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "host", "host:", ":1", "::1:80", "[::1]", "[host]:1", "[]:1", "a b:1", "h:1:2",
     "h:-1", "h:65536", "h:٣", "h: 1", "http://h:1", "hö:1", "[::1]x:1"],
)  # fmt: skip
def test_anything_else_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadAddress, match=r"host:port|port of"):
        parse_address(text)


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        address = parse_address(text)
    except BadAddress:
        return
    assert parse_address(str(address)) == address


def test_wildcards_and_loopback_addresses_are_known() -> None:
    assert [parse_address(a).is_wildcard for a in ("0.0.0.0:1", "[::]:1", "h:1")] == [
        True,
        True,
        False,
    ]
    loopback = ["127.0.0.2:1", "[::1]:1", "localhost:1", "10.0.0.1:1", "0.0.0.0:1"]
    assert [parse_address(a).is_loopback for a in loopback] == [True, True, True, False, False]
