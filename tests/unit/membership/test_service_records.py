"""What may register, what is kept of it, and the token that lets it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.cluster.join_token import (
    BadJoinToken,
    JoinToken,
    decode_join_token,
    encode_join_token,
)
from octad.client.cluster.service_records import (
    BadRegistration,
    RegisterRequest,
    ServiceInstance,
    SessionRequest,
    WithdrawRequest,
    check_instance,
    check_ttl,
    kept_record,
)
from octad.client.cluster.service_token import (
    decode_service_token,
    encode_service_token,
    service_token,
)

TOKEN = JoinToken("1a2b3c4d", bytes(range(32)))
GOOD = ServiceInstance(service="web", instance="a", address="10.0.0.5:80")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("service", "", "service"),
        ("service", "a/b", "service"),
        ("instance", "x y", "instance"),
        ("address", "nowhere", "host:port"),
        ("address", "10.0.0.5:0", "no one can connect"),
        ("address", "0.0.0.0:80", "no one can connect"),
        ("weight", -1.0, "weight"),
        ("weight", float("nan"), "weight"),
        ("zone", "a b", "zone"),
        ("health", "fine", "one of ok, degraded, failing"),
        ("version", "x" * 129, "version"),
        ("labels", {"a b": "c"}, "label"),
        ("labels", {f"l{n}": "" for n in range(33)}, "at most 32"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would_do(
    field: str, value: object, reason: str
) -> None:
    check_instance(GOOD)
    with pytest.raises(BadRegistration, match=reason):
        check_instance(msgspec.structs.replace(GOOD, **{field: value}))


@pytest.mark.parametrize("ttl_s", [0, 1.9, 86_401, float("inf"), float("nan")])
def test_a_time_to_live_has_bounds(ttl_s: float) -> None:
    with pytest.raises(BadRegistration, match="choose from 2 to 86400"):
        check_ttl(ttl_s)


def test_fields_of_a_newer_version_are_kept() -> None:
    sent = json.dumps(
        {"service": "web", "instance": "a", "address": "10.0.0.5:80", "gpu": {"count": 2}}, indent=1
    ).encode()
    kept = json.loads(kept_record(sent, msgspec.json.decode(sent, type=ServiceInstance)))
    assert kept["gpu"] == {"count": 2}
    assert kept["health"] == "ok", "what was left out is there as it is meant"


def test_a_record_stays_one_line_and_within_its_bound() -> None:
    sent = b'{"service":"web","instance":"a","address":"h:1","note":\n"x"}'
    assert b"\n" not in kept_record(sent, msgspec.json.decode(sent, type=ServiceInstance))
    sent = json.dumps(
        {"service": "web", "instance": "a", "address": "h:1", "note": "x" * 5000}
    ).encode()
    with pytest.raises(BadRegistration, match="at most 4096"):
        kept_record(sent, msgspec.json.decode(sent, type=ServiceInstance))


def test_the_join_token_does_where_a_service_token_is_asked_for() -> None:
    token = service_token(TOKEN)
    assert decode_service_token(encode_service_token(token)) == token
    assert decode_service_token(encode_join_token(TOKEN)) == token
    assert TOKEN.secret not in token.key
    assert "key" not in repr(token)


@given(st.data())
def test_a_service_token_with_a_typing_mistake_is_refused(data: st.DataObject) -> None:
    text = encode_service_token(service_token(TOKEN))
    position = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda c: c != text[position]))
    with pytest.raises(BadJoinToken):
        decode_service_token(text[:position] + letter + text[position + 1 :])


def test_a_service_token_is_no_join_token_and_is_called_by_its_name() -> None:
    with pytest.raises(BadJoinToken, match="this is a service token"):
        decode_join_token(encode_service_token(service_token(TOKEN)))


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (RegisterRequest, '{"record":{},"number":%d}'),
        (WithdrawRequest, '{"session":"a","number":%d}'),
        (SessionRequest, '{"ttl_s":3,"born":%d}'),
    ],
)
def test_numbers_are_those_that_the_store_counts_in(kind: type, document: str) -> None:
    msgspec.json.decode(document % (2**63 - 1), type=kind)
    for number in (-1, 2**63, 10**1000):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(document % number, type=kind)
