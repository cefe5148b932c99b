"""DNS as bytes: what is asked is understood or refused, and no answer is larger than it may be."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.cluster.service_records import ServiceInstance
from octad.coordinator.dns.dns_answers import answer_to
from octad.coordinator.dns.dns_messages import (
    EDNS_BYTES_MAX,
    UDP_BYTES,
    Address,
    Answer,
    BadQuestion,
    Code,
    Kind,
    decode_question,
    encode_answer,
)

TCP = 65_535


def asked(name: str, kind: int = Kind.A, edns: int | None = None, flags: int = 0x0100) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    body = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    head = struct.pack(">HHHHHH", 7, flags, 1, 0, 0, edns is not None)
    opt = b"" if edns is None else struct.pack(">BHHIH", 0, 41, edns, 0, 0)
    return head + body + struct.pack(">HH", kind, 1) + opt


def one(name: str, address: str, **fields: object) -> ServiceInstance:
    return ServiceInstance(service="web", instance=name, address=address, **fields)  # type: ignore[arg-type]


THERE = [
    one("a", "10.0.0.5:80", weight=3),
    one("b", "[fd00::5]:81", health="degraded"),
    one("c", "10.0.0.6:82", health="failing"),
    one("d", "10.0.0.7:83", drain=True),
    one("e", "web.lan:84"),
]


def answered(name: str, kind: int = Kind.A) -> Answer:
    question = decode_question(asked(name, kind))
    assert question is not None
    return answer_to(question, lambda n: THERE if n == "web" else [], lambda names: names.sort())


def addresses(answer: Answer) -> list[str]:
    return [str(each.address) for each in answer.records if isinstance(each, Address)]


def test_a_name_has_the_addresses_of_those_that_may_be_sent_work() -> None:
    assert addresses(answered("web.service.octad")) == ["10.0.0.5"]
    assert addresses(answered("WEB.Service.OCTAD.", Kind.AAAA)) == ["fd00::5"]
    assert answered("web.service.octad", 16).records == []
    for kind in (Kind.A, Kind.SRV, 16):
        assert answered("none.service.octad", kind).code == Code.NXDOMAIN
    assert answered("web.other.octad").code == Code.NXDOMAIN
    assert answered("octad").code == Code.NOERROR
    for foreign in ("example.com", "service.octad.com", ""):
        assert answered(foreign).code == Code.REFUSED


def test_srv_has_ports_weights_and_targets_that_can_be_looked_up() -> None:
    for name in ("web.service.octad", "_web._tcp.service.octad"):
        answer = answered(name, Kind.SRV)
        servers = [(s.weight, s.port, ".".join(s.target)) for s in answer.records]  # type: ignore[union-attr]
        assert servers == [
            (3, 80, "0a000005.addr.octad"),
            (1, 81, "fd000000000000000000000000000005.addr.octad"),
            (1, 84, "web.lan"),
        ]
        assert [str(extra.address) for extra in answer.extras] == ["10.0.0.5", "fd00::5"]
    assert addresses(answered("0a000005.addr.octad")) == ["10.0.0.5"]
    assert addresses(answered("0a000005.addr.octad", Kind.AAAA)) == []
    for bad in ("0a0000.addr.octad", "zz000005.addr.octad"):
        assert answered(bad).code == Code.NXDOMAIN


@pytest.mark.parametrize(
    ("edns", "size"), [(None, UDP_BYTES), (0, UDP_BYTES), (65_535, EDNS_BYTES_MAX)]
)
def test_an_answer_that_does_not_fit_is_cut_off_and_says_so(edns: int | None, size: int) -> None:
    question = decode_question(asked("web.service.octad", Kind.A, edns))
    assert question is not None
    assert question.size == size
    records = [Address(("web", "service", "octad"), ip_address(f"10.0.{n}.1")) for n in range(200)]
    message = encode_answer(question, Answer(Code.NOERROR, records), question.size)
    _, flags, _, count, _, more = struct.unpack_from(">HHHHHH", message)
    assert len(message) <= size
    assert flags & 0x0200, "TC"
    assert 0 < count < 200
    assert more == (edns is not None)
    whole = encode_answer(question, Answer(Code.NOERROR, records), TCP)
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", whole)
    assert (flags & 0x0200, count) == (0, 200)


@given(
    st.binary(max_size=80)
    | st.binary(max_size=60).map(lambda tail: asked("web.service.octad")[:12] + tail)
)
def test_whatever_arrives_is_answered_in_short_or_not_at_all(data: bytes) -> None:
    with suppress(BadQuestion):
        question = decode_question(data)
        if question is not None:
            answer = answer_to(question, lambda _: THERE, lambda _: None)
            assert len(encode_answer(question, answer, question.size)) <= question.size


def test_what_is_no_question_is_refused_in_twelve_bytes() -> None:
    good = asked("web.service.octad")
    for bad, code in (
        (good[:-3], Code.FORMERR),
        (good[:4] + b"\0\2" + good[6:], Code.FORMERR),
        (good[:12] + b"\xc0\x0c" + good[14:], Code.FORMERR),
        (good[:2] + b"\x28\0" + good[4:], Code.NOTIMP),
    ):
        with pytest.raises(BadQuestion) as refused:
            decode_question(bad)
        assert len(refused.value.answer) == 12
        assert refused.value.answer[:2] == good[:2]
        assert refused.value.answer[3] & 15 == code
    assert decode_question(asked("web.service.octad", flags=0x8100)) is None, "an answer"
    assert decode_question(good[:11]) is None
