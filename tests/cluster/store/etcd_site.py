"""etcd as a site of the store tests: emptied before each, so that one server serves them all."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import grpc.aio
from tests.cluster.store.etcd_process import EtcdMember
from tests.unit.store.store_site import Site

from octad.coordinator.store.etcd import EtcdStore
from octad.coordinator.store.etcd_connection import rpc
from octad.coordinator.store.interface import ConfigStore


class EtcdSite(Site):
    """Every client has its own connection."""

    lease_s = 2.0  # etcd grants no shorter ones.

    def __init__(self, members: Sequence[EtcdMember]) -> None:
        self.members = members
        self._clients: list[EtcdStore] = []

    async def open(self) -> ConfigStore:
        self._clients.append(EtcdStore([member.url for member in self.members]))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        self._clients.clear()

    async def empty(self) -> None:
        await _administer(
            self.members[0], "KV", "DeleteRange", rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0")
        )

    async def forget_history(self) -> None:
        store = await self.open()
        newest = (await store.range("no such prefix")).revision
        await compact(self.members[0], newest)


async def compact(member: EtcdMember, revision: int) -> None:
    """Forget what was before `revision`."""
    await _administer(
        member, "KV", "Compact", rpc.CompactionRequest(revision=revision, physical=True)
    )


async def leader_of(members: Sequence[EtcdMember]) -> EtcdMember:
    """The member of a cluster that leads it."""
    for member in members:
        status = await _administer(member, "Maintenance", "Status", rpc.StatusRequest())
        if status.leader == status.header.member_id:
            return member
    raise AssertionError("no member leads")


async def _administer(member: EtcdMember, service: str, method: str, request: Any) -> Any:
    async with grpc.aio.insecure_channel(member.url.removeprefix("http://")) as channel:
        call: Awaitable[Any] = getattr(getattr(rpc, f"{service}Stub")(channel), method)(request)
        return await call
