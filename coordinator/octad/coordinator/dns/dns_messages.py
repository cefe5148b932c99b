"""Questions and answers of DNS as bytes (RFC 1035, 2782, 6891): values in, values out.

    decode_question(bytes) -> Question, or None for what deserves no answer, or raises BadQuestion
    encode_answer(question, answer, size) -> bytes, cut off with the TC bit where they do not fit

Only what a server of one zone needs: one question, names without compression in it, no recursion.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

UDP_BYTES = 512  # Of an answer to who says nothing of more.
EDNS_BYTES_MAX = 1232  # Fits every path unfragmented: the DNS flag day of 2020.
QUESTION_BYTES_MAX = 512
ANSWER_BYTES_MAX = 65_535  # Over TCP.

_HEADER = struct.Struct(">HHHHHH")
_NAME_BYTES_MAX, _LABEL_BYTES_MAX = 255, 63
_IN = 1
_OPT = 41
_QR, _AA, _TC, _RD = 0x8000, 0x0400, 0x0200, 0x0100
_OPCODE = 0x7800


class Kind(IntEnum):
    """Types of records that are given."""

    A = 1
    SOA = 6
    AAAA = 28
    SRV = 33


class Code(IntEnum):
    """What became of a question."""

    NOERROR = 0
    FORMERR = 1
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


Name = tuple[str, ...]  # Labels, in lower case, without the root.


@dataclass(frozen=True, slots=True)
class Question:
    """`size`: what a UDP answer may have. `labels`: as asked, to be said again."""

    id: int
    labels: tuple[bytes, ...]
    kind: int
    kind_class: int
    recursion_desired: bool
    size: int
    has_edns: bool

    @property
    def name(self) -> Name:
        return tuple(label.decode("latin-1").lower() for label in self.labels)

    @property
    def is_internet(self) -> bool:
        return self.kind_class == _IN


class BadQuestion(Exception):
    """It is to be answered with `answer`, and nothing else."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("not a question that is answered here")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Address:
    """An A or AAAA record."""

    name: Name
    address: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Server:
    """A SRV record."""

    name: Name
    weight: int
    port: int
    target: Name


@dataclass(frozen=True, slots=True)
class Answer:
    """`extras` are left out without harm. With no `records`, `zone` says that there are none."""

    code: Code
    records: Sequence[Address | Server] = ()
    extras: Sequence[Address] = ()
    zone: Name | None = None


def decode_question(data: bytes) -> Question | None:
    """None: an answer, or too short for one. Raises BadQuestion."""
    if len(data) < _HEADER.size:
        return None
    id_, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        return None  # Two servers would answer each other for ever.
    if flags & _OPCODE:
        raise BadQuestion(_HEADER.pack(id_, _QR | flags & _OPCODE | Code.NOTIMP, 0, 0, 0, 0))
    try:
        if (questions, answers, authorities) != (1, 0, 0) or additional > 1:
            raise ValueError("not one question")
        labels, at = _decode_name(data, _HEADER.size)
        kind, kind_class = struct.unpack_from(">HH", data, at)
        size = _edns_size(data, at + 4) if additional else None
    except (ValueError, struct.error):
        refusal = _HEADER.pack(id_, _QR | Code.FORMERR, 0, 0, 0, 0)
        raise BadQuestion(refusal) from None
    return Question(
        id_,
        labels,
        kind,
        kind_class,
        bool(flags & _RD),
        UDP_BYTES if size is None else min(max(size, UDP_BYTES), EDNS_BYTES_MAX),
        size is not None,
    )


def encode_answer(question: Question, answer: Answer, size: int) -> bytes:
    """Up to `size` bytes; records that do not fit are left out, and the TC bit says so."""
    edns = struct.pack(">BHHIH", 0, _OPT, EDNS_BYTES_MAX, 0, 0) if question.has_edns else b""
    asked = _encode_labels(question.labels) + struct.pack(">HH", question.kind, question.kind_class)
    room = size - _HEADER.size - len(asked) - len(edns)
    records, flags = list[bytes](), _QR | _AA | answer.code
    if question.recursion_desired:
        flags |= _RD
    if answer.code == Code.REFUSED:
        flags &= ~_AA
    for record in map(_encode_record, answer.records):
        if len(record) > room:
            flags |= _TC
            break
        records.append(record)
        room -= len(record)
    extras = list[bytes]()
    for extra in map(_encode_record, answer.extras):
        if len(extra) > room or flags & _TC:
            break
        extras.append(extra)
        room -= len(extra)
    none = [] if answer.zone is None or answer.records else [_encode_zone(answer.zone)]
    header = _HEADER.pack(
        question.id, flags, 1, len(records), len(none), len(extras) + question.has_edns
    )
    return b"".join((header, asked, *records, *none, *extras, edns))


def _decode_name(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    labels, begin = list[bytes](), at
    while True:
        if at >= len(data):
            raise ValueError("it ends within a name")
        length = data[at]
        at += 1
        if length == 0:
            return tuple(labels), at
        if length > _LABEL_BYTES_MAX or at + length > len(data):
            raise ValueError("a label is too long, or compressed")
        labels.append(data[at : at + length])
        at += length
        if at - begin >= _NAME_BYTES_MAX:
            raise ValueError("a name is too long")


def _edns_size(data: bytes, at: int) -> int | None:
    """The size that an OPT record in the only place for one gives."""
    root, kind, size = struct.unpack_from(">BHH", data, at)
    return size if (root, kind) == (0, _OPT) else None


def _encode_labels(labels: Sequence[bytes]) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _encode_name(name: Name) -> bytes:
    return _encode_labels([label.encode("latin-1") for label in name])


def _encode_record(record: Address | Server) -> bytes:
    if isinstance(record, Server):
        kind = Kind.SRV
        data = struct.pack(">HHH", 1, record.weight, record.port) + _encode_name(record.target)
    else:
        kind = Kind.A if record.address.version == 4 else Kind.AAAA
        data = record.address.packed
    # A time to live of 0: who comes and goes is not to be remembered.
    return _encode_name(record.name) + struct.pack(">HHIH", kind, _IN, 0, len(data)) + data


def _encode_zone(zone: Name) -> bytes:
    """The SOA record, whose last number says for how long there being none may be remembered."""
    data = _encode_name(zone) + _encode_name(("octad", *zone))
    data += struct.pack(">IIIII", 1, 3600, 600, 86_400, 0)
    return _encode_name(zone) + struct.pack(">HHIH", Kind.SOA, _IN, 0, len(data)) + data
