"""Sessions of processes: leases of the configuration store that any coordinator can renew.

Nothing of a session is kept here. What it is called is its secret: who can name it may write for
it. Whether a write of it counts is decided in `membership/session_writes.py`.
"""

from __future__ import annotations

import hmac

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.service_records import SessionAnswer, SessionRequest, check_ttl
from octad.coordinator.membership.registrations import age
from octad.coordinator.membership.session_writes import Change, SessionSeen
from octad.coordinator.schema.records import SessionRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    LeaseExpired,
    LeaseId,
    Put,
    Revision,
    StoreUnavailable,
)

_MAC_DIGITS = 32


class SessionGone(Exception):
    """The session ended, or never was one: register again."""


class Sessions:
    """Writes `sessions/`. All methods that wait raise StoreUnavailable."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, token: JoinToken) -> None:
        self._store = store
        self._keys = keys
        self._key = token.key_for("service-sessions")

    async def open(self, request: SessionRequest) -> SessionAnswer:
        """Opens an empty one; raises BadRegistration. If the answer is lost it expires."""
        lease, since = await self.begin(request.ttl_s, request.born)
        return SessionAnswer(session=self.name_of(lease), born=since)

    async def begin(self, ttl_s: float, told_born: int) -> tuple[LeaseId, Revision]:
        """Its lease and age; raises BadRegistration."""
        check_ttl(ttl_s)
        lease = await self._store.grant_lease(ttl_s)
        record = SessionRecord(born=Revision(told_born))
        key = self._keys.session(lease)
        try:
            outcome = await self._store.transact([], [Put(key, msgspec.json.encode(record), lease)])
        except LeaseExpired as error:
            raise StoreUnavailable(f"it took longer than {ttl_s:g} s") from error
        return lease, age(record, outcome.revision)

    async def end(self, session: str) -> None:
        """Takes everything away that hangs on it; no error if it has ended."""
        await self._store.revoke_lease(self.lease_of(session))

    async def see(self, lease: LeaseId) -> SessionSeen:
        """The session's record as it is now."""
        key = self._keys.session(lease)
        return SessionSeen(key, lease, await self._store.get(key))

    async def carry_out(self, seen: SessionSeen, change: Change) -> Revision | None:
        """The revision; None when someone was faster: look again. Raises SessionGone."""
        try:
            outcome = await self._store.transact(change.compares, change.operations)
        except LeaseExpired as error:
            if seen.entry is None:
                raise SessionGone("the session has ended: register again") from error
            return None  # Its own, or another one that has a part in it.
        return outcome.revision if outcome.succeeded else None

    def name_of(self, lease: LeaseId) -> str:
        return f"{lease:x}-{self._mac(f'{lease:x}')}"

    def lease_of(self, session: str) -> LeaseId:
        """Only leases that were granted here: no one ends a node's or the leader's by mistake."""
        lease, _, mac = session.partition("-")
        if not hmac.compare_digest(mac.encode(), self._mac(lease).encode()):
            raise SessionGone("this is no session of this cluster: register again")
        return LeaseId(int(lease, 16))

    def _mac(self, lease: str) -> str:
        return hmac.digest(self._key, lease.encode(), "sha256").hex()[:_MAC_DIGITS]
