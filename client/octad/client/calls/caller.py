"""Carries requests out: chooses a node, asks it, tries again, and says how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from octad.client.calls.exchanges import BYTES_A_SECOND, Answer, Exchanges
from octad.client.calls.nodes import Node, Nodes, NodeState, chance
from octad.client.calls.placement import PLACEMENT_HEADER, Placement, parse_placement
from octad.client.calls.requests import Request
from octad.client.calls.settings import Settings
from octad.client.errors import (
    BreakerOpen,
    CannotReach,
    ClientClosed,
    DeadlineExceeded,
    OctadError,
    WrongProtocol,
)
from octad.client.http.transport import Address, ConnectionFailed, NotHttp, Runtime, SilentPeer
from octad.client.resilience.retry_policy import (
    TRIES_MAX,
    RetryBudget,
    back_off_s,
    retry_after_s,
)

if TYPE_CHECKING:
    from octad.client.calls.map_keeper import MapKeeper

_LOOKED_AT_S: Final = 0.01
_WHERE_S_MAX: Final = 3.0


class Caller:
    """Of one client."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.settings = settings
        self.runtime = runtime
        self._budget = RetryBudget()
        self._exchanges = self._new_exchanges(settings.endpoints)
        self._keeper = self._new_keeper()

    async def whole(self, request: Request, deadline_s: float | None = None) -> Answer:
        """The answer with its body. Raises OctadError."""
        return await self._called(request, deadline_s, whole=True)

    async def opened(self, request: Request, deadline_s: float | None = None) -> Answer:
        """The answer once its head is there. Raises OctadError."""
        return await self._called(request, deadline_s, whole=False)

    async def some_address(self) -> Address:
        """Of any node, for those who are told where to go. Raises CannotReach."""
        if self._keeper is not None:
            await self._keep_map(self._keeper, self.runtime.now() + self.settings.deadline_s)
        return self._exchanges.nodes.addresses[0]

    def node_states(self) -> list[NodeState]:
        return self._exchanges.nodes.states(self.runtime.now())

    def close(self) -> None:
        """A second time does nothing."""
        if self._keeper is not None and self._exchanges.is_home:
            self._keeper.close()
        self._exchanges.close()

    async def _called(self, request: Request, deadline_s: float | None, *, whole: bool) -> Answer:
        exchanges = self._exchanges
        if exchanges.closed:
            raise ClientClosed
        if not exchanges.is_home:  # Another process, or another loop: what it has is not ours.
            exchanges = self._exchanges = self._new_exchanges(exchanges.nodes.addresses)
            self._keeper = self._new_keeper()
        until = self.runtime.now() + self._time_for(request, deadline_s)
        keeper, straight = self._keeper, None
        if keeper is not None:
            straight = await self._straight_to(keeper, request, until)
        tried: list[Node] = []
        tries, maybe_done = 0, False
        last_error: OctadError | None = None
        while True:
            tries += 1
            try:
                node = exchanges.nodes.choose(straight, tried, self.runtime.now())
            except BreakerOpen as error:
                raise last_error or error from None
            asked_to_wait_s = 0.0
            try:
                answer = await exchanges.answered(node, request, tries, until)
                success = _is_success(answer.head.status)
                if whole or not success:
                    await answer.read_all(
                        until + (answer.allowance_s if deadline_s is None else 0.0)
                    )
                if success and not (request.is_slow and _hides_refusal(answer.body)):
                    self._budget.on_success()
                    if keeper is not None:
                        keeper.placement.on_answer(request.bucket, answer.head.headers)
                    return answer
            except ConnectionFailed as failure:
                maybe_done = maybe_done or (failure.sent and not request.is_read)
                last_error = self._unavailable(failure, node, request, until, maybe_done)
                if isinstance(failure, NotHttp):
                    raise last_error from failure
                last_error.__cause__ = failure
                if keeper is not None:
                    keeper.look_now()
            else:
                last_error, asked_to_wait_s = _refused(answer, request, node)
                maybe_done = maybe_done or not request.is_read
            tried.append(node)
            pause_s = back_off_s(tries, chance(), asked_to_wait_s)
            over = tries == TRIES_MAX or self.runtime.now() + pause_s >= until
            if over or not self._budget.take():
                raise last_error
            await self.runtime.sleep(pause_s)

    async def _straight_to(self, keeper: MapKeeper, request: Request, until: float) -> Node | None:
        """The node that answers `request` without passing it on, as far as is known.

        What is large has its bytes in other shards than its key, so all nodes share the work.
        """
        await self._keep_map(keeper, until)
        bucket, key = request.bucket, request.key
        if not key or request.is_large:
            return None
        placement = keeper.placement
        if not placement.knows(bucket):
            await self._ask_where(placement, bucket)
        address = placement.address(bucket, key)
        return None if address is None else self._exchanges.nodes.at(address)

    async def _keep_map(self, keeper: MapKeeper, until: float) -> None:
        nodes = self._exchanges.nodes
        if await keeper.keep():
            found = dict.fromkeys((*keeper.placement.addresses.values(), *self.settings.endpoints))
            nodes.set_addresses(tuple(found))
        while not nodes.addresses:  # Another call asks for the first map, or no one answers.
            if keeper.failure or self.runtime.now() >= until:
                raise CannotReach(
                    f"no coordinator answers: {keeper.failure or 'it takes too long'}",
                    "check the coordinator's URL, or name an endpoint beside it",
                )
            await self.runtime.sleep(_LOOKED_AT_S)
            if await keeper.keep():
                nodes.set_addresses(tuple(keeper.placement.addresses.values()))

    async def _ask_where(self, placement: Placement, bucket: str) -> None:
        placement.set_bucket(bucket, None)  # One call asks; the others go anywhere meanwhile.
        try:
            answer = await self.whole(Request("HEAD", bucket), _WHERE_S_MAX)
        except OctadError:
            placement.forget(bucket)
            return
        placement.set_bucket(bucket, parse_placement(answer.head.headers.get(PLACEMENT_HEADER, "")))

    def _new_keeper(self) -> MapKeeper | None:
        settings = self.settings
        if not settings.coordinators:
            return None
        from octad.client.calls.map_keeper import MapKeeper

        return MapKeeper(settings, self.runtime)

    def _new_exchanges(self, addresses: tuple[Address, ...]) -> Exchanges:
        nodes = Nodes(self.runtime.gate, self.settings.proxy_for)
        nodes.set_addresses(addresses)
        return Exchanges(self.settings, self.runtime, nodes)

    def _time_for(self, request: Request, deadline_s: float | None) -> float:
        if deadline_s is not None:
            return deadline_s
        return self.settings.deadline_s + len(request.body) / BYTES_A_SECOND

    def _unavailable(
        self,
        failure: ConnectionFailed,
        node: Node,
        request: Request,
        until: float,
        maybe_done: bool,
    ) -> OctadError:
        url = node.address.url
        what = f"{request.method} {request.path} at {url}: {failure}"
        if isinstance(failure, NotHttp):
            other = "http" if node.address.tls else "https"
            fix = f"use {other}:// for this endpoint"
            if "TLS" not in str(failure):
                fix = "check the endpoint (a node's S3 port is 9000 unless told otherwise)"
            return WrongProtocol(what, fix)
        if isinstance(failure, SilentPeer) and self.runtime.now() >= until:
            fix = "give it more time (deadline=), or see how the cluster does: octad status"
            return DeadlineExceeded(what, fix, outcome_unknown=maybe_done)
        fix = "check the endpoint and the network, or see how the cluster does: octad status"
        return CannotReach(what, fix, outcome_unknown=maybe_done)


def _refused(answer: Answer, request: Request, node: Node) -> tuple[OctadError, float]:
    """The error, and how long the server asks to wait. Raises it where it will not pass."""
    from octad.client.calls.refusals import error_of, refusal_of  # Most clients never need it.

    refusal = refusal_of(answer.head, answer.body, request)
    error = error_of(refusal, request, node.address.url)
    if not refusal.may_pass:
        raise error
    return error, retry_after_s(refusal.retry_after)


def _is_success(status: int) -> bool:
    return 200 <= status < 300 or status == 304


def _hides_refusal(body: bytes) -> bool:
    """Whether an answer is a refusal in spite of its status, as it may be after a long work."""
    return b"<Error>" in body[:256]
