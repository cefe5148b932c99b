"""What the front door counts of requests, both ways, with TLS and without."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.s3.front_door_site import FrontDoorSite
from tests.unit.s3.http.test_front_door_connections import IMPOSTOR, wait_until
from tests.unit.s3.raw_connection import Wire

from octad.sharding.limits import MIB

BODY = bytes(3 * MIB + 5)  # It comes and goes in many pieces.


class Count:
    """What has been added since it was made."""

    def __init__(self, site: FrontDoorSite) -> None:
        self._figures = site.door.figures
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        whole = {name: int(t.whole.cumulative()[-1][1]) for name, t in self._figures.times.items()}
        begun = [int(t.first_byte.cumulative()[-1][1]) for t in self._figures.times.values()]
        assert sum(begun) == sum(whole.values())
        return {
            **whole,
            "received": self._figures.received_bytes,
            "sent": self._figures.sent_bytes,
        }

    def added(self) -> dict[str, int]:
        wait_until(lambda: self._figures.in_flight == 0)
        return {
            name: value - self._before.get(name, 0)
            for name, value in self._now().items()
            if value != self._before.get(name, 0)
        }


def test_times_and_bytes_are_counted_by_operation(site: FrontDoorSite, bucket: str) -> None:
    count = Count(site)
    assert site.request("PUT", f"/{bucket}/small", body=b"12345").status == 200
    assert site.request("PUT", f"/{bucket}/large", body=BODY).status == 200
    assert count.added() == {"PutObject": 2, "received": len(BODY) + 5}
    count = Count(site)
    assert site.request("GET", f"/{bucket}/small").body == b"12345"
    assert site.request("GET", f"/{bucket}/large").body == BODY
    assert site.request("HEAD", f"/{bucket}/large").status == 200
    assert count.added() == {"GetObject": 2, "HeadObject": 1, "sent": len(BODY) + 5}
    count = Count(site)
    refused = site.request("GET", f"/{bucket}/small", credentials=IMPOSTOR)
    assert count.added() == {"none": 1, "sent": len(refused.body)}


def test_a_request_is_in_flight_until_it_is_answered_or_its_client_is_gone(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire]
) -> None:
    figures, count = site.door.figures, Count(site)
    clients = [wire() for _ in range(3)]
    for client in clients:
        client.send_head("PUT", f"/{bucket}/key", {"content-length": str(len(BODY))})
        client.socket.sendall(BODY[: 2 * MIB])
    wait_until(lambda: figures.in_flight == 3)
    clients[0].socket.sendall(BODY[2 * MIB :])
    assert clients[0].head().startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: figures.in_flight == 2)
    for client in clients[1:]:
        client.socket.close()
    added = count.added()
    assert added.pop("PutObject") == 1, "who left was not answered"
    assert len(BODY) < added.pop("received") <= len(BODY) + 4 * MIB
    assert not added
