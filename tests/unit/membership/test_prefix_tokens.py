"""A token for names that begin alike changes those, and nothing else, however it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.coordinator.running_coordinator import TOKEN, open_cluster, running
from tests.unit.coordinator_http.signed_requests import challenge_of, signed

from octad.client.cluster.internal_auth import AUTHORIZATION_HEADER
from octad.client.cluster.join_token import BadJoinToken, decode_join_token
from octad.client.cluster.service_token import (
    SCOPE_HEADER,
    ServiceToken,
    decode_service_token,
    encode_service_token,
    service_token,
)
from octad.client.kv import open_kv
from octad.client.membership import CallRefused, CoordinatorsUnreachable, lock, register

WHOLE = service_token(TOKEN)
SHOP = WHOLE.narrowed("shop-")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        yield url


@given(st.text("abcXYZ019._:/-", min_size=1, max_size=64), st.binary(min_size=32, max_size=32))
def test_a_token_is_read_as_it_was_written(prefix: str, key: bytes) -> None:
    token = ServiceToken("1a2b3c4d", key, prefix)
    text = encode_service_token(token)
    assert decode_service_token(f" {text}\n") == token
    for damaged in (text[:-1], text[:-8], text.replace("octad1p", "octad1s")):
        with pytest.raises(BadJoinToken):
            decode_service_token(damaged)
    with pytest.raises(BadJoinToken, match="this is a service token"):
        decode_join_token(text)


@pytest.mark.parametrize("prefix", ["", "with space", "ümlaut", "x" * 65, "line\n"])
def test_what_is_no_prefix_makes_no_token(prefix: str) -> None:
    with pytest.raises(BadJoinToken, match="is no prefix"):
        WHOLE.narrowed(prefix)


def test_a_token_of_a_prefix_makes_no_other() -> None:
    with pytest.raises(BadJoinToken, match="for the prefix shop- alone"):
        SHOP.narrowed("shop-web")


async def test_it_registers_locks_and_sets_what_begins_so(url: str) -> None:
    async with (
        register("shop-web", "10.0.0.5:80", coordinator=url, token=SHOP) as web,
        lock("shop-nightly", coordinator=url, token=encode_service_token(SHOP)) as held,
        open_kv(coordinator=url, token=SHOP) as kv,
    ):
        await web.update(drain=True)
        assert held.token > 0
        revision = await kv.put("shop-web/colour", b"blue")
        assert (await kv.get("shop-web/colour")).revision == revision
        assert [each.key for each in (await kv.keys("shop-")).keys] == ["shop-web/colour"]
        assert await kv.delete("shop-web/colour") > 0


def _others(url: str, token: ServiceToken) -> list[AbstractAsyncContextManager[object]]:
    return [
        register("shop", "10.0.0.5:80", coordinator=url, token=token),
        register("web", "10.0.0.5:80", coordinator=url, token=token),
        lock("nightly", coordinator=url, token=token),
    ]


async def test_of_other_names_it_changes_nothing(url: str) -> None:
    async with open_kv(coordinator=url, token=WHOLE) as kv:
        await kv.put("web/secret", b"1")
    for entering in _others(url, SHOP):
        with pytest.raises(CallRefused, match="names that begin with shop-") as refused:
            await entering.__aenter__()
        assert refused.value.code == "out-of-scope"
    async with open_kv(coordinator=url, token=SHOP) as kv:
        for call in (
            kv.get("web/secret"), kv.put("web/secret", b"2"), kv.delete("web/secret"),
            kv.keys(), kv.keys("shop"),
        ):  # fmt: skip
            with pytest.raises(CallRefused, match="names that begin with shop-"):
                await call
    async with open_kv(coordinator=url, token=WHOLE) as kv:
        assert (await kv.get("web/secret")).value == b"1"


async def test_no_other_prefix_can_be_claimed_for_its_key(url: str) -> None:
    for forged in (replace(SHOP, prefix=""), replace(SHOP, prefix="web")):
        for entering in _others(url, forged):
            with pytest.raises(CoordinatorsUnreachable, match="does not know the secret"):
                await entering.__aenter__()


async def test_a_claim_that_is_no_prefix_opens_nothing_even_with_the_service_key(url: str) -> None:
    path = "/cluster/v1/kv/colour"
    for claim in ("with space", "x" * 65, "\xfc"):
        async with aiohttp.ClientSession() as session:
            challenge = await challenge_of(url, "/cluster/v1/sessions", WHOLE.key)
            headers = {
                AUTHORIZATION_HEADER: signed(challenge, WHOLE.key, path, b"", "PUT"),
                SCOPE_HEADER: claim,
            }
            async with session.put(url + path, headers=headers) as answer:
                assert (answer.status, (await answer.json())["code"]) == (403, "out-of-scope")
