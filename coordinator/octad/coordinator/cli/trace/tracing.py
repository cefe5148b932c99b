"""Watches nodes' requests over their admin ports, each in a thread, and prints what they tell."""

from __future__ import annotations

import hashlib
import http.client
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from octad.client.cluster.coordinator_reads import not_a_coordinator, read_json
from octad.client.cluster.refusal import RefusalMessage
from octad.client.cluster.status_document import (
    STATUS_PATH,
    BadStatus,
    NodeStatus,
    decode_status,
)
from octad.client.runtime.command import EXIT_USAGE, CommandError
from octad.client.s3.sigv4 import Credentials, sign_request
from octad.client.s3.trace_document import (
    TRACE_PATH,
    TraceFilter,
    TraceLine,
    TraceProgress,
    decode_told,
)
from octad.coordinator.schema.join_messages import REGION

_SILENCE_S_MAX: Final = 15.0  # A node says something every five seconds.
_WAITING_MAX: Final = 10_000

Told = tuple[str, TraceLine | TraceProgress | None, str]  # None: the node ends, and why.


class Tracing:
    """Of the nodes that the coordinator at `url` knows, or of those named. Raises CommandError."""

    def __init__(
        self, url: str, credentials: Credentials, wanted: TraceFilter, names: Sequence[str]
    ) -> None:
        self._credentials, self._wanted = credentials, wanted
        self._nodes = _chosen(_nodes(url), names)
        self._told: queue.Queue[Told] = queue.Queue(_WAITING_MAX)

    def show(self, count: int | None, *, as_json: bool) -> None:
        """Until `count` requests are printed; raises CommandError once no node tells any more."""
        watching = {name for name, _ in self._nodes}
        reasons: list[str] = []
        for name, address in self._nodes:
            threading.Thread(target=self._follow, args=(name, address), daemon=True).start()
        if not watching:
            raise _nobody(["none is live"])
        while count is None or count > 0:
            name, told, why = self._told.get()
            if told is None:
                watching.discard(name)
                reasons.append(f"{name}: {why}")
                print(f"octad: {name} is not watched: {why}", file=sys.stderr)
                if not watching:
                    raise _nobody(reasons)
            elif isinstance(told, TraceLine):
                print(_document(name, told) if as_json else shown(name, told), flush=True)
                count = None if count is None else count - 1
            elif told.left_out:
                text = f"octad: {name} has left out {told.left_out}: narrow it, or --sample 0.1"
                print(text, file=sys.stderr)

    def _follow(self, name: str, address: str) -> None:
        try:
            for told in self._lines(address):
                self._told.put((name, told, ""))
            why = "it has ended"
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            why = f"{address} does not answer ({error or type(error).__name__})"
        except CommandError as error:
            why = error.what
        self._told.put((name, None, why))

    def _lines(self, address: str) -> Iterator[TraceLine | TraceProgress]:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_SILENCE_S_MAX)
        try:
            query = self._wanted.query()
            headers = {"host": address}
            signed, _ = sign_request(
                method="GET",
                path=TRACE_PATH,
                query=query,
                headers=headers,
                credentials=self._credentials,
                region=REGION,
                now=time.time(),
                content_sha256=hashlib.sha256().hexdigest(),
            )
            target = f"{TRACE_PATH}?{query}" if query else TRACE_PATH
            connection.request("GET", target, headers={**headers, **signed})
            response = connection.getresponse()
            if response.status != http.client.OK:
                reason = msgspec.json.decode(response.read(), type=RefusalMessage).reason
                raise CommandError(f"it refuses: {reason}", "")
            while line := response.readline():
                yield decode_told(line)
        finally:
            connection.close()


def _nodes(url: str) -> list[NodeStatus]:
    try:
        return list(decode_status(read_json(url, STATUS_PATH)).nodes)
    except BadStatus as error:
        raise not_a_coordinator(url, str(error)) from error


def _chosen(nodes: Sequence[NodeStatus], names: Sequence[str]) -> list[tuple[str, str]]:
    known = {node.name: node.admin_address for node in nodes if node.live}
    if missing := set(names) - set(known):
        raise CommandError(
            f"there is no live node {min(missing)}", "see which there are: octad status", EXIT_USAGE
        )
    chosen = {name: known[name] for name in names or known}
    return [(name, address) for name, address in chosen.items() if address is not None]


def _nobody(reasons: Sequence[str]) -> CommandError:
    return CommandError(
        f"no node can be watched ({'; '.join(reasons)})",
        "run it where the nodes' admin ports are reached (octad node --admin-listen), with an"
        " admin's access key",
    )


def shown(node: str, line: TraceLine) -> str:
    """For people."""
    status = "left" if line.status is None else str(line.status)
    figures = (
        f"{line.seconds * 1000:9.1f} ms {line.received_bytes:>10} B in {line.sent_bytes:>10} B out"
    )
    return f"{line.time} {node} {status:>4} {figures}  {line.operation} {line.path} {line.key_id}"


def _document(node: str, line: TraceLine) -> str:
    fields = {"node": node, **msgspec.structs.asdict(line)}
    return msgspec.json.encode(fields).decode()
