"""The access keys that this node takes, as the store has them: what is not sure opens nothing."""

from __future__ import annotations

import logging

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.client.s3.owners import canonical_id
from octad.coordinator.admin.admin_signature import Signer
from octad.coordinator.schema.access_keys import secret_of
from octad.coordinator.schema.records import AccessKeyRecord
from octad.coordinator.schema.sealing import DoesNotOpen
from octad.coordinator.store.interface import KeyValue

log = logging.getLogger(__name__)


class KnownKeys:
    """Feed it what the mirror sees below `keys/`. `secrets`: (secret, owner) of each valid key."""

    def __init__(self, token: JoinToken) -> None:
        self._token = token
        self.secrets: dict[str, tuple[str, str]] = {}
        self._admins: set[str] = set()
        self._owners: dict[str, str] | None = None  # By canonical id; None: not known any more.

    def owner_of_id(self, id: str) -> str | None:
        """The owner of a valid key whose canonical id it is, or None."""
        if self._owners is None:
            cluster = self._token.cluster
            self._owners = {canonical_id(cluster, name): name for _, name in self.secrets.values()}
        return self._owners.get(id)

    def signer(self, access_key: str) -> Signer | None:
        """A valid key, and whether it is an admin's; None: it is not known."""
        known = self.secrets.get(access_key)
        if known is None:
            return None
        return Signer(access_key, known[0], access_key in self._admins)

    def on_change(self, access_key: str, entry: KeyValue | None) -> None:
        """A key whose record is disabled, another's, damaged or sealed by others opens nothing."""
        self.secrets.pop(access_key, None)
        self._admins.discard(access_key)
        self._owners = None
        if entry is None:
            return
        try:
            record = msgspec.json.decode(entry.value, type=AccessKeyRecord)
            if record.access_key != access_key:
                raise DoesNotOpen("it is the record of another key")
            if not record.disabled:
                self.secrets[access_key] = (secret_of(self._token, record), record.owner)
                if record.admin:
                    self._admins.add(access_key)
        except (msgspec.DecodeError, DoesNotOpen, UnicodeDecodeError) as error:
            log.error("access key %s is refused: %s", access_key, error)
