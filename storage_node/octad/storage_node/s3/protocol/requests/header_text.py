"""Header values that are not ASCII: what text they are, and how that text is written in an answer.

A value is kept as the bytes of the wire read as Latin-1, so nothing of it is lost. It goes back in
encoded words (RFC 2047), as S3 answers it: raw bytes in a head are read in as many ways as there
are clients, and some refuse the whole answer.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

_WORD_BEGINS, _WORD_ENDS = "=?UTF-8?B?", "?="
_WORD_CHARACTERS_MAX: Final = 75  # RFC 2047 §2.
_WORD_BYTES_MAX: Final = (_WORD_CHARACTERS_MAX - len(_WORD_BEGINS) - len(_WORD_ENDS)) // 4 * 3


def text_of(value: str) -> str:
    """The text that the sender meant: UTF-8 if the bytes are valid, else Latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def ascii_value(value: str) -> str:
    """`value` as it is where it is ASCII, else its text in encoded words."""
    return value if value.isascii() else " ".join(map(_word, _pieces(text_of(value))))


def _word(piece: bytes) -> str:
    return f"{_WORD_BEGINS}{b64encode(piece).decode()}{_WORD_ENDS}"


def _pieces(text: str) -> list[bytes]:
    """Pieces of whole characters, since every word is decoded by itself."""
    pieces = [b""]
    for character in text:
        encoded = character.encode()
        if len(pieces[-1]) + len(encoded) > _WORD_BYTES_MAX:
            pieces.append(b"")
        pieces[-1] += encoded
    return pieces
