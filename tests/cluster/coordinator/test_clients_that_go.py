"""A coordinator whose clients go away, at whatever moment, says nothing of it."""

from __future__ import annotations

import socket
import struct
from itertools import product

import pytest
from tests.cluster.coordinator.coordinator_site import Start, forget_clusters, store_of, until
from tests.cluster.store.etcd_process import EtcdMember

from octad.client.cluster.join_token import decode_join_token
from octad.client.membership.event_document import EVENTS_PATH

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

STREAM = f"GET {EVENTS_PATH} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"
LONG_POLL = f"GET {EVENTS_PATH}?wait=30 HTTP/1.1\r\nHost: h\r\n\r\n"
HALF = "PUT /cluster/v1/services/web/a HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nhalf of it"
NO_LINGER = struct.pack("ii", 1, 0)  # close() resets the connection.


def ask(address: str, request: str) -> socket.socket:
    """A client that has sent its request."""
    host, _, port = address.rpartition(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(request.encode())
    return client


async def test_clients_that_go_while_the_coordinator_is_frozen_leave_no_traceback(
    etcd: EtcdMember, start: Start
) -> None:
    coordinator = start()
    try:
        for request, reset in product((STREAM, LONG_POLL, HALF), (True, False)):
            clients = [ask(coordinator.address, request) for _ in range(3)]
            if request != HALF:
                for client in clients:
                    client.recv(1)
            coordinator.freeze()
            clients += [ask(coordinator.address, request) for _ in range(3)]
            for client in clients:
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                client.close()
            coordinator.thaw()
            await until(
                lambda: "octad_watchers 0.0" in coordinator.metrics(), "all of them are gone"
            )
        assert "Traceback" not in coordinator.said(), coordinator.said()
    finally:
        token = decode_join_token(coordinator.printed("join token"))
        async with store_of(etcd, token) as store:
            await forget_clusters(store)
