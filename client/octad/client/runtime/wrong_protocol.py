"""TLS to a port of plain HTTP, and the reverse: what a port says to it, at once and in words."""

from __future__ import annotations

from typing import Final

# A record of TLS that is a handshake, of any version since SSL 3: no request begins so.
TLS_BEGINS: Final = b"\x16"
CODE: Final = "wrong-protocol"  # Of a coordinator's refusal.
PLAIN_IS_SPOKEN: Final = (
    "This port speaks plain HTTP, and this was TLS: use http:// for its address."
)
TLS_IS_SPOKEN: Final = (
    "This port speaks TLS, and this was plain HTTP: use https:// for its address."
)
