"""What a call to another node can end in, other than its answer.

An error carries the facts as fields. Unless it says otherwise, the outcome of the call is
*unknown*: the other node may have acted on it, or may still do so.
"""

from __future__ import annotations

from octad.sharding.ids import NodeId, node_name

INTERNAL = "internal"  # Code of a RemoteError that is a bug over there, logged over there.
BAD_MESSAGE = "bad-message"  # The other node is of a version that does not know this message.
BUSY = "busy"  # It has too much to do, or to send, for this node; it did nothing with the request.


class RpcError(Exception):
    """Base of what `Peers.call` raises."""

    def __init__(self, node: NodeId, text: str) -> None:
        super().__init__(f"{node_name(node)}: {text}")
        self.node = node


class PeerUnavailable(RpcError):
    """It cannot be asked now (`sent` is False: it saw nothing), or was lost before its answer."""

    def __init__(self, node: NodeId, text: str, *, sent: bool) -> None:
        super().__init__(node, text)
        self.sent = sent


class CallTimeout(RpcError):
    """No answer in time. A later one is dropped."""

    def __init__(self, node: NodeId, *, timeout_s: float) -> None:
        super().__init__(node, f"no answer within {timeout_s:g} s")
        self.timeout_s = timeout_s


class RemoteError(RpcError):
    """The other node answered, with a refusal: nothing is unknown but what `code` says is."""

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
