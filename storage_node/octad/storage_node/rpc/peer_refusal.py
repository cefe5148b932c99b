"""Why a node breaks off with a peer: what came in was not what a node of this cluster sends.

Counted by reason, logged once in a while, and the connection is closed: nothing else can be done.
"""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """The reasons, as they are counted and as they cross the wire during a handshake."""

    MALFORMED = "malformed"  # Not our protocol at all, or nonsense within it.
    VERSION = "version"  # Another version of the protocol.
    CLUSTER = "cluster"  # A node of another cluster.
    KEY = "key"  # It does not know the cluster's secret.
    SELF = "self"  # We dialed ourselves.
    DUPLICATE = "duplicate"  # Another process with our node id.
    WRONG_NODE = "wrong-node"  # Not the node that should live at this address.
    DIRECTION = "direction"  # A node with a higher id dialed us; it should wait for our call.
    LENGTH = "length"  # A length beyond the limits.
    TAG = "tag"  # Bytes were altered, replayed, reordered or left out.
    CUT_SHORT = "cut-short"  # The connection ended within a frame or a handshake.
    SILENT = "silent"  # Silent for too long: frozen, cut off, or never sent anything.
    TOO_MANY = "crowd"  # Too many strangers at a time.
    MESSAGE = "message"  # A message that we do not know; the connection stays.
    OVERRUN = "overrun"  # It sends requests, and does not read the answers.
    TLS = "tls"  # One side speaks TLS, the other does not.
    CERTIFICATE = "certificate"  # A certificate that was not made for this cluster.


class PeerRefused(Exception):
    """The peer broke the protocol. `answer`, if not empty, is sent before closing."""

    def __init__(self, reason: Refusal, text: str, answer: bytes = b"") -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text
        self.answer = answer
