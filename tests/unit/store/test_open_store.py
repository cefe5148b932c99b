"""The description of a store that a node keeps on disk."""

from __future__ import annotations

import pytest

from octad.client.cluster.join_token import JoinToken
from octad.coordinator.store.etcd import EtcdStore
from octad.coordinator.store.etcd_connection import Endpoint
from octad.coordinator.store.http_client import HttpStore
from octad.coordinator.store.open_store import (
    StoreAddress,
    decode_store_address,
    encode_store_address,
    open_store,
)

TOKEN = JoinToken("0123abcd", bytes(32))
HTTP = StoreAddress("http", ("http://127.0.0.1:9401",))
ETCD = StoreAddress("etcd", ("https://e1:2379", "https://e2:2379"), ca_file="/etc/ca.pem")


@pytest.mark.parametrize("address", [HTTP, ETCD], ids=["http", "etcd"])
def test_an_address_is_read_as_it_was_written(address: StoreAddress) -> None:
    assert decode_store_address(encode_store_address(address)) == address


def test_an_address_is_plain_json() -> None:
    assert encode_store_address(HTTP) == b'{"kind":"http","endpoints":["http://127.0.0.1:9401"]}'


@pytest.mark.parametrize(
    "data",
    [
        b'{"kind":"zookeeper","endpoints":["http://127.0.0.1:1"]}',
        b'{"kind":"etcd","endpoints":[]}',
        b'{"kind":"http","endpoints":["http://127.0.0.1:1","http://127.0.0.1:2"]}',
        b"",
    ],
)
def test_an_address_that_cannot_be_opened_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"endpoints|zookeeper|truncated"):
        decode_store_address(data)


async def test_the_kind_decides_what_is_opened() -> None:
    for address, kind in ((HTTP, HttpStore), (ETCD, EtcdStore)):
        store = open_store(address, TOKEN)
        assert isinstance(store, kind)
        await store.close()


def test_an_etcd_url_may_carry_user_and_password() -> None:
    assert Endpoint.parse("http://h") == Endpoint("h:2379", False, None, None)
    assert Endpoint.parse("https://u%40x:p%3Aw@[::1]:99") == Endpoint(
        "[::1]:99", True, "u@x", "p:w"
    )


@pytest.mark.parametrize("url", ["h:2379", "ftp://h", "http://", "http://user@h"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Endpoint.parse(url)
