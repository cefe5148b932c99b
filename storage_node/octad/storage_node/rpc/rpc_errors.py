"""The errors of a call to another node.

An error carries the facts as fields. Unless it says otherwise, the outcome of the call is
*unknown*: the other node may have acted on it, or may still do so.
"""

from __future__ import annotations

from octad.sharding.ids import NodeId, node_name

INTERNAL = "internal"  # Code of a RemoteError that is a bug over there, logged over there.
BAD_MESSAGE = "bad-message"  # The other node is of a version that does not know this message.
BUSY = "busy"  # It is overloaded by this node's requests; it did nothing with this one.


class RpcError(Exception):
    """Base of the errors of `Peers.call`."""

    def __init__(self, node: NodeId, text: str) -> None:
        super().__init__(f"{node_name(node)}: {text}")
        self.node = node


class PeerUnavailable(RpcError):
    """The node is unreachable (`sent` is False: it saw nothing), or was lost before it answered."""

    def __init__(self, node: NodeId, text: str, *, sent: bool) -> None:
        super().__init__(node, text)
        self.sent = sent


class CallTimeout(RpcError):
    """No answer in time. A later one is dropped."""

    def __init__(self, node: NodeId, *, timeout_s: float) -> None:
        super().__init__(node, f"no answer within {timeout_s:g} s")
        self.timeout_s = timeout_s


class RemoteError(RpcError):
    """The other node refused: the outcome is known unless `code` says otherwise."""

    def __init__(self, node: NodeId, code: str, text: str) -> None:
        super().__init__(node, f"{code}: {text}")
        self.code = code
        self.text = text


class RpcRefusal(Exception):
    """Raised by a request's handler: the caller gets RemoteError(code, text)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
