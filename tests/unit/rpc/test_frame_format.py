"""Frames: any delivery gives the same, and nothing but what was sent is ever let through."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.rpc.rpc_pairs import read_all

from octad.sharding.limits import FRAME_BODY_BYTES_MAX
from octad.storage_node.rpc.frame_format import (
    ERROR,
    FRAME_HEADER_BYTES_MAX,
    FRAME_VERSION,
    HEADER,
    LARGE_BYTES,
    ONE_WAY,
    PREFIX,
    REQUEST,
    RESPONSE,
    SCRATCH_BYTES,
    SEALED_BYTES_MAX,
    SEALED_BYTES_MIN,
    DirectionKey,
    Frame,
    FrameReader,
    FrameSealer,
    FrameTooLarge,
)
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal

KEY = DirectionKey(bytes(range(16)), b"D->A")
GOLDEN = Path("tests/golden/rpc/frames_v1.bin")

kinds = st.sampled_from([REQUEST, RESPONSE, ERROR, ONE_WAY])
body_sizes = st.sampled_from([0, 1, 100, 5000, LARGE_BYTES - 60, LARGE_BYTES, 2 * SCRATCH_BYTES])
bodies = st.builds(lambda size, fill: bytes([fill]) * size, body_sizes, st.integers(0, 255))
contents = st.tuples(kinds, st.integers(0, 2**64 - 1), st.binary(max_size=40), bodies)

Content = tuple[int, int, bytes, bytes]


def seal_all(items: list[Content]) -> list[bytes]:
    sealer = FrameSealer(KEY)
    return [sealer.seal(*item) + item[3] for item in items]


def content_of(frame: Frame) -> Content:
    return frame.kind, frame.call_id, frame.message, bytes(frame.body)


@settings(max_examples=60, deadline=None)
@given(st.lists(contents, max_size=6), st.data())
def test_whole_or_in_any_portions_the_same_frames_come_out(
    items: list[Content], data: st.DataObject
) -> None:
    stream = b"".join(seal_all(items))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    reader = FrameReader(KEY)
    frames: list[Frame] = []
    for start, end in pairwise(sorted({0, len(stream), *cuts})):
        frames += read_all(reader, stream[start:end])
    assert [content_of(frame) for frame in frames] == items
    assert not reader.within_frame


def test_byte_by_byte_the_same_frames_come_out() -> None:
    items = [
        (REQUEST, 7, b"ask", b""),
        (ONE_WAY, 0, b"", b"x" * 3000),
        (RESPONSE, 7, b"answer", b"y" * (LARGE_BYTES + 5)),
        (ERROR, 2**64 - 1, b"no", b"z"),
    ]
    frames = read_all(FrameReader(KEY), b"".join(seal_all(items)), portion_bytes=1)
    assert [content_of(frame) for frame in frames] == items


@settings(max_examples=150, deadline=None)
@given(st.lists(contents, min_size=1, max_size=4), st.data())
def test_one_altered_bit_is_refused_and_no_frame_after_it_comes_out(
    items: list[Content], data: st.DataObject
) -> None:
    sealed = seal_all(items)
    stream = bytearray(b"".join(sealed))
    # Small fields as often as large bodies: within one frame, counted from either end.
    victim = data.draw(st.integers(0, len(items) - 1))
    start = sum(map(len, sealed[:victim]))
    near = data.draw(st.integers(0, min(70, len(sealed[victim]) - 1)))
    at = start + (near if data.draw(st.booleans()) else len(sealed[victim]) - 1 - near)
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    frames: list[Frame] = []
    reader = FrameReader(KEY)
    refused = None
    try:
        rest = bytes(stream)
        while rest:
            space = reader.space()
            portion, rest = rest[: len(space)], rest[len(space) :]
            space[: len(portion)] = portion
            for frame in reader.received(len(portion)):
                frames.append(frame)
    except PeerRefused as error:
        refused = error.reason
    assert [content_of(frame) for frame in frames] == items[:victim]
    # A length that has grown, within the limits, waits for bytes that do not come.
    assert refused in {Refusal.TAG, Refusal.LENGTH, Refusal.VERSION} or reader.within_frame


@pytest.mark.parametrize(
    "order",
    [(0, 0), (0, 2), (1, 0, 2), (0, 1, 2, 0), (2, 1, 0)],
    ids=["replayed", "one-left-out", "swapped", "replayed-later", "reversed"],
)
def test_frames_in_another_order_than_sent_are_refused(order: tuple[int, ...]) -> None:
    sealed = seal_all([(ONE_WAY, 0, bytes([number]), b"") for number in range(3)])
    with pytest.raises(PeerRefused) as refused:
        read_all(FrameReader(KEY), b"".join(sealed[number] for number in order))
    assert refused.value.reason is Refusal.TAG


def test_the_body_of_one_frame_does_not_pass_with_the_header_of_another() -> None:
    sealer = FrameSealer(KEY)
    header = sealer.seal(REQUEST, 1, b"delete", b"aaaa")
    with pytest.raises(PeerRefused):
        read_all(FrameReader(KEY), header + b"bbbb")


@pytest.mark.parametrize("portion_bytes", [1, 1 << 30])
@pytest.mark.parametrize(
    ("sealed_length", "body_length"),
    [
        (0xFFFFFFFF, 0),
        (SEALED_BYTES_MAX + 1, 0),
        (SEALED_BYTES_MIN - 1, 0),
        (0, 0),
        (SEALED_BYTES_MIN, FRAME_BODY_BYTES_MAX + 1),
        (SEALED_BYTES_MIN, 0xFFFFFFFF),
    ],
)
def test_an_absurd_length_is_refused_before_anything_is_allocated(
    sealed_length: int, body_length: int, portion_bytes: int
) -> None:
    reader = FrameReader(KEY)
    before = reader.space().obj
    with pytest.raises(PeerRefused) as refused:
        read_all(reader, PREFIX.pack(FRAME_VERSION, sealed_length, body_length), portion_bytes)
    assert refused.value.reason is Refusal.LENGTH
    assert reader.space().obj is before


def test_another_version_is_refused() -> None:
    with pytest.raises(PeerRefused) as refused:
        read_all(FrameReader(KEY), PREFIX.pack(FRAME_VERSION + 1, SEALED_BYTES_MIN, 0))
    assert refused.value.reason is Refusal.VERSION


def test_an_authentic_frame_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(PeerRefused) as refused:
        read_all(FrameReader(KEY), FrameSealer(KEY).seal(9, 0, b"", b""))
    assert refused.value.reason is Refusal.MALFORMED


@pytest.mark.parametrize("kept", [1, PREFIX.size - 1, PREFIX.size, 40, LARGE_BYTES])
def test_a_stream_cut_short_is_known_to_be_within_a_frame(kept: int) -> None:
    (sealed,) = seal_all([(REQUEST, 1, b"x" * 20, b"y" * 2 * LARGE_BYTES)])
    reader = FrameReader(KEY)
    assert read_all(reader, sealed[:kept]) == []
    assert reader.within_frame


def test_the_sender_is_told_of_a_frame_that_would_be_refused() -> None:
    sealer = FrameSealer(KEY)
    with pytest.raises(FrameTooLarge):
        sealer.seal(REQUEST, 1, b"", bytes(FRAME_BODY_BYTES_MAX + 1))
    with pytest.raises(FrameTooLarge):
        sealer.seal(REQUEST, 1, bytes(FRAME_HEADER_BYTES_MAX + 1), b"")
    largest = (REQUEST, 1, bytes(FRAME_HEADER_BYTES_MAX), bytes(FRAME_BODY_BYTES_MAX))
    # What was not sent does not count: the receiver expects the first frame.
    (frame,) = read_all(FrameReader(KEY), sealer.seal(*largest) + largest[3])
    assert content_of(frame) == largest


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 200))
def test_noise_is_refused_or_waited_for_and_nothing_else(noise: bytes, portion_bytes: int) -> None:
    with suppress(PeerRefused):
        assert read_all(FrameReader(KEY), noise, portion_bytes) == []


def test_a_body_handed_out_does_not_change_when_more_is_received() -> None:
    items = [(ONE_WAY, 0, b"", bytes([number]) * 9000) for number in range(40)]
    frames = read_all(FrameReader(KEY), b"".join(seal_all(items)))
    assert [content_of(frame) for frame in frames] == items
    assert all(frame.body.readonly for frame in frames)


def test_the_bytes_of_version_1_are_the_golden_ones() -> None:
    items = [
        (REQUEST, 1, b"\x91\x01", b""),
        (RESPONSE, 1, b"\x91\x02", b"sixteen bytes of"),
        (ERROR, 2, b"\x93\x03\xa4code\xa4text", b""),
        (ONE_WAY, 0, b"\x91\x01", bytes(range(256))),
    ]
    golden = GOLDEN.read_bytes()
    assert b"".join(seal_all(items)) == golden
    assert [content_of(frame) for frame in read_all(FrameReader(KEY), golden)] == items
    assert golden[: PREFIX.size] == bytes.fromhex("01 0000001b 00000000")
    assert HEADER.pack(REQUEST, 1) == bytes.fromhex("01 0000000000000001")
