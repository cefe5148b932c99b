"""The handshake: only two nodes of one cluster, each the one it says, ever get a session."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.rpc.rpc_pairs import (
    THREE,
    TOKEN,
    TWO,
    give,
    handshakes,
    hello,
    read_all,
    shake_hands,
)

from octad.sharding.ids import NodeId
from octad.storage_node.rpc.frame_format import ONE_WAY, FrameReader, FrameSealer
from octad.storage_node.rpc.peer_handshake import (
    ANSWER,
    HELLO,
    MAGIC,
    PROOF,
    PROOF_BYTES,
    PROTOCOL_VERSION,
    RECORD,
    RPC_HANDSHAKE_BYTES_MAX,
    Handshake,
    Hello,
    hkdf_sha256,
)
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal

GOLDEN = Path("tests/golden/rpc/handshake_v1.bin")


def run(dialer: Handshake, acceptor: Handshake) -> None:
    give(acceptor, give(dialer, give(acceptor, dialer.start())))


def refusal_of(dialer: Handshake, acceptor: Handshake) -> tuple[Refusal, Refusal]:
    """What breaks the handshake off, and what the other side is told and gives as its reason."""
    with pytest.raises(PeerRefused) as refused:
        run(dialer, acceptor)
    other = dialer if acceptor.session is None and acceptor._peer is None else acceptor
    with pytest.raises(PeerRefused) as told:
        give(other, refused.value.answer)
    assert dialer.session is None
    assert acceptor.session is None
    return refused.value.reason, told.value.reason


def test_both_sides_learn_who_is_there_and_share_a_key_for_each_direction() -> None:
    dialer, acceptor = shake_hands()
    assert (dialer.node, dialer.boot) == (2, "boot-2")
    assert (acceptor.node, acceptor.boot) == (1, "boot-1")
    assert dialer.outgoing == acceptor.incoming
    assert dialer.incoming == acceptor.outgoing
    assert dialer.incoming.key != dialer.outgoing.key


def test_what_a_node_has_sent_is_of_no_use_when_sent_back_to_it() -> None:
    dialer, _ = shake_hands()
    frame = FrameSealer(dialer.outgoing).seal(ONE_WAY, 0, b"hello", b"")
    with pytest.raises(PeerRefused):
        read_all(FrameReader(dialer.incoming), frame)


def test_another_nonce_on_either_side_gives_other_keys() -> None:
    first, _ = shake_hands()
    for which in (0, 1):
        hellos = [hello(1), hello(2)]
        hellos[which] = type(hellos[which])(
            TOKEN.cluster, which + 1, f"boot-{which + 1}", b"n" * 32
        )
        dialer, acceptor = handshakes(*hellos)
        run(dialer, acceptor)
        assert dialer.session is not None
        assert dialer.session.outgoing.key != first.outgoing.key
        assert dialer.session.incoming.key != first.incoming.key


def test_byte_by_byte_the_handshake_ends_the_same() -> None:
    dialer, acceptor = handshakes()

    def drip(to: Handshake, data: bytes) -> bytes:
        return b"".join(give(to, bytes([byte])) for byte in data)

    drip(acceptor, drip(dialer, drip(acceptor, dialer.start())))
    assert (dialer.session, acceptor.session) == shake_hands()


def test_the_handshake_takes_no_byte_of_the_first_frame() -> None:
    dialer, acceptor = handshakes()
    proof = give(dialer, give(acceptor, dialer.start()))
    assert len(acceptor.space()) == RECORD.size
    acceptor.space()[:] = proof[: RECORD.size]
    acceptor.received(RECORD.size)
    assert len(acceptor.space()) == len(proof) - RECORD.size


def test_a_node_of_another_cluster_is_refused() -> None:
    refused = refusal_of(*handshakes(hello(1, cluster="0badcafe")))
    assert refused == (Refusal.CLUSTER, Refusal.CLUSTER)


def test_a_node_without_the_secret_is_refused() -> None:
    assert refusal_of(*handshakes(acceptor_key=b"x" * 32)) == (Refusal.KEY, Refusal.KEY)


def test_a_dialer_that_only_pretends_to_have_the_secret_is_refused() -> None:
    dialer, acceptor = handshakes()
    proof = bytearray(give(dialer, give(acceptor, dialer.start())))
    proof[-1] ^= 1
    with pytest.raises(PeerRefused) as refused:
        give(acceptor, bytes(proof))
    assert refused.value.reason is Refusal.KEY


def test_an_acceptors_own_proof_does_not_pass_as_the_dialers() -> None:
    dialer, acceptor = handshakes()
    answer = give(acceptor, dialer.start())
    with pytest.raises(PeerRefused) as refused:
        give(acceptor, RECORD.pack(MAGIC, PROTOCOL_VERSION, PROOF, PROOF_BYTES) + answer[-32:])
    assert refused.value.reason is Refusal.KEY


def test_a_proof_recorded_earlier_does_not_pass_with_a_new_nonce() -> None:
    dialer, acceptor = handshakes()
    start = dialer.start()
    proof = give(dialer, give(acceptor, start))
    _, again = handshakes(acceptor=Hello(TOKEN.cluster, 2, "boot-2", b"n" * 32))
    give(again, start)
    with pytest.raises(PeerRefused) as refused:
        give(again, proof)
    assert refused.value.reason is Refusal.KEY


def test_dialing_oneself_is_refused() -> None:
    assert refusal_of(*handshakes(hello(2), hello(2)))[0] is Refusal.SELF


def test_a_second_process_with_our_id_is_refused() -> None:
    refused, _ = refusal_of(*handshakes(hello(2, boot="another"), hello(2)))
    assert refused is Refusal.DUPLICATE


def test_the_node_with_the_higher_id_does_not_dial() -> None:
    assert refusal_of(*handshakes(hello(3), hello(2)))[0] is Refusal.DIRECTION


def test_another_node_than_the_one_dialed_is_refused() -> None:
    refused = refusal_of(*handshakes(acceptor=hello(2), wanted=THREE))
    assert refused == (Refusal.WRONG_NODE, Refusal.WRONG_NODE)


@pytest.mark.parametrize("kind", [HELLO, ANSWER])
def test_another_version_is_refused_and_told_so(kind: int) -> None:
    dialer, acceptor = handshakes()
    start = dialer.start()
    data, side = (start, acceptor) if kind == HELLO else (give(acceptor, start), dialer)
    newer = data.replace(
        RECORD.pack(MAGIC, PROTOCOL_VERSION, kind, 0)[:11],
        RECORD.pack(MAGIC, PROTOCOL_VERSION + 1, kind, 0)[:11],
    )
    with pytest.raises(PeerRefused) as refused:
        give(side, newer)
    assert refused.value.reason is Refusal.VERSION
    # The refusal of a newer node is understood, whatever its version says.
    told = bytearray(refused.value.answer)
    told[8:10] = (PROTOCOL_VERSION + 1).to_bytes(2, "big")
    with pytest.raises(PeerRefused) as repeated:
        give(handshakes()[0], bytes(told))
    assert repeated.value.reason is Refusal.VERSION


@pytest.mark.parametrize("length", [0, RPC_HANDSHAKE_BYTES_MAX - RECORD.size + 1, 0xFFFF])
def test_an_absurd_record_length_is_refused(length: int) -> None:
    _, acceptor = handshakes()
    with pytest.raises(PeerRefused) as refused:
        give(acceptor, RECORD.pack(MAGIC, PROTOCOL_VERSION, HELLO, length))
    assert refused.value.reason is Refusal.LENGTH


def test_another_protocol_is_refused_without_an_answer() -> None:
    _, acceptor = handshakes()
    with pytest.raises(PeerRefused) as refused:
        give(acceptor, b"GET / HTTP/1.1\r\nhost: n2\r\n\r\n")
    assert refused.value.reason is Refusal.MALFORMED
    assert refused.value.answer == b""


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_altered_bit_anywhere_leaves_the_side_that_gets_it_without_a_session(
    data: st.DataObject,
) -> None:
    dialer, acceptor = handshakes()
    altered = data.draw(st.integers(0, 2), label="record")

    def pass_on(number: int, record: bytes) -> bytes:
        if number != altered or not record:
            return record
        at = data.draw(st.integers(0, len(record) - 1))
        bit = 1 << data.draw(st.integers(0, 7))
        return record[:at] + bytes([record[at] ^ bit]) + record[at + 1 :]

    try:
        answer = give(acceptor, pass_on(0, dialer.start()))
        proof = give(dialer, pass_on(1, answer))
        give(acceptor, pass_on(2, proof))
    except PeerRefused:
        pass
    assert acceptor.session is None
    assert altered == 2 or dialer.session is None


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.sampled_from([1, 2, 3, 4]), st.booleans())
def test_any_payload_is_refused_or_waited_for(noise: bytes, kind: int, dialing: bool) -> None:
    side = handshakes()[0 if dialing else 1]
    side.start()
    with pytest.raises(PeerRefused):
        give(side, RECORD.pack(MAGIC, PROTOCOL_VERSION, kind, len(noise)) + noise)


def test_keys_are_derived_as_rfc_5869_says() -> None:
    derived = hkdf_sha256(
        bytes.fromhex("0b" * 22), bytes(range(13)), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), 42
    )
    assert derived.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_the_bytes_of_version_1_are_the_golden_ones() -> None:
    key = TOKEN.key_for("rpc")
    dialer = Handshake(hello(1), key, TWO)
    acceptor = Handshake(hello(2), key, None)
    records = [dialer.start()]
    records.append(give(acceptor, records[0]))
    records.append(give(dialer, records[1]))
    give(acceptor, records[2])
    session = acceptor.session
    assert session is not None
    keys = [session.incoming.key, session.incoming.nonce_prefix]
    keys += [session.outgoing.key, session.outgoing.nonce_prefix]
    assert b"".join(records + keys) == GOLDEN.read_bytes()
    assert key == hmac.digest(TOKEN.secret, b"octad 00c0ffee rpc", "sha256")
    assert NodeId(2) == dialer._wanted
