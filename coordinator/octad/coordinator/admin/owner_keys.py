"""Access keys of owners: made, listed, disabled, removed; each change is one transaction.

An owner exists as long as a key or bucket names it: there is no other record of one. Up to two
keys of an owner are valid at a time, so that one can replace the other without a failed request.
The last key of the last admin cannot be removed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.client.s3.owners import canonical_id, is_owner_name
from octad.coordinator.admin.admin_refusal import AdminRefused
from octad.coordinator.admin.admin_signature import Signer
from octad.coordinator.schema.access_keys import (
    BadCredentials,
    access_key_record,
    check_credentials,
    is_access_key,
    secret_of,
)
from octad.coordinator.schema.admin_messages import (
    CreateKeyRequest,
    KeyDocument,
    KeysDocument,
    key_document,
    unseal_new_secret,
)
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import AccessKeyRecord, StoreKeys
from octad.coordinator.schema.sealing import NONCE_BYTES, DoesNotOpen
from octad.coordinator.store.interface import (
    Compare,
    ConfigStore,
    Delete,
    KeyValue,
    ModRevisionIs,
    NoneNewer,
    Put,
    Revision,
    StoreOperation,
    StoreUnavailable,
)

VALID_KEYS_MAX = 2  # Per owner.
_ATTEMPTS = 5

log = logging.getLogger(__name__)


class OwnerKeys:
    """See the module. All raise StoreUnavailable, BadRecord, and AdminRefused with the reason."""

    def __init__(self, store: ConfigStore, token: JoinToken) -> None:
        self._store = store
        self._token = token
        self._keys = StoreKeys(token.cluster)

    async def signer(self, access_key: str) -> Signer | None:
        """Returns the owner of `access_key` as of now; None if no one may use it. Fails closed.

        Anyone can name any key: one that cannot be a key is not asked of the store.
        """
        if not is_access_key(access_key):
            return None
        entry = await self._store.get(self._keys.access_key(access_key))
        if entry is None:
            return None
        record = decode_record(entry, AccessKeyRecord)
        if record.disabled or record.access_key != access_key:
            return None
        try:
            return Signer(access_key, secret_of(self._token, record), record.admin)
        except DoesNotOpen as error:
            log.error("access key %s is refused: %s", access_key, error)
            return None

    async def all_keys(self) -> KeysDocument:
        """All keys, by owner."""
        listing = await self._store.range(self._keys.access_keys)
        records = [decode_record(entry, AccessKeyRecord) for entry in listing.entries]
        records.sort(key=lambda record: (record.owner, record.access_key))
        return KeysDocument(tuple(self._document(record) for record in records))

    async def create(self, access_key: str, wanted: CreateKeyRequest, admin: Signer) -> KeyDocument:
        """Returns once the key exists; idempotent with the same secret."""
        secret = _checked_secret(access_key, wanted, admin)
        key = self._keys.access_key(access_key)
        for _ in range(_ATTEMPTS):
            listing = await self._store.range(self._keys.access_keys)
            records = {e.key: decode_record(e, AccessKeyRecord) for e in listing.entries}
            known = records.get(key)
            if known is not None:
                return self._document(self._check_same(known, wanted, secret))
            _check_room(wanted.owner, records.values())
            nonce = secrets.token_bytes(NONCE_BYTES)
            record = access_key_record(
                self._token, access_key, secret, wanted.owner, nonce, admin=wanted.admin
            )
            unchanged = NoneNewer(self._keys.access_keys, listing.revision)
            compares: list[Compare] = [unchanged, ModRevisionIs(key, Revision(0))]
            if await self._transact(compares, [Put(key, msgspec.json.encode(record))]):
                kind = "admin's access key" if wanted.admin else "access key"
                log.info("%s made %s %s of %s", admin.access_key, kind, access_key, wanted.owner)
                return self._document(record)
        raise _busy()

    async def disable(self, access_key: str, admin: Signer) -> KeyDocument:
        """The key is refused from now on, but stays listed."""
        for _ in range(_ATTEMPTS):
            entry, others = await self._find(access_key)
            record = decode_record(entry, AccessKeyRecord)
            if record.disabled:
                return self._document(record)
            record = msgspec.structs.replace(record, disabled=True)
            value = with_unknown_fields(entry.value, record)
            if await self._transact([_is_as(entry), *others], [Put(entry.key, value)]):
                log.info("%s disabled access key %s", admin.access_key, access_key)
                return self._document(record)
        raise _busy()

    async def remove(self, access_key: str, admin: Signer) -> None:
        """Deletes the key; its name may be used again."""
        for _ in range(_ATTEMPTS):
            entry, others = await self._find(access_key)
            if await self._transact([_is_as(entry), *others], [Delete(entry.key)]):
                log.info("%s removed access key %s", admin.access_key, access_key)
                return
        raise _busy()

    async def _find(self, access_key: str) -> tuple[KeyValue, list[Compare]]:
        """Returns the key, and the comparisons by which another admin's key remains."""
        listing = await self._store.range(self._keys.access_keys)
        key = self._keys.access_key(access_key)
        entry = next((each for each in listing.entries if each.key == key), None)
        if entry is None:
            raise AdminRefused(404, "no-such-key", f"there is no access key {access_key}")
        if not _opens_all(entry):
            return entry, []
        for other in listing.entries:
            if other.key != key and _opens_all(other):
                return entry, [_is_as(other)]
        raise AdminRefused(
            409,
            "last-admin",
            f"{access_key} is the last valid key of an admin; make another first: "
            "octad key create OWNER --admin",
        )

    def _check_same(
        self, known: AccessKeyRecord, wanted: CreateKeyRequest, secret: str
    ) -> AccessKeyRecord:
        try:
            same = secret_of(self._token, known) == secret
        except DoesNotOpen:
            same = False
        if (
            same
            and not known.disabled
            and (known.owner, known.admin)
            == (
                wanted.owner,
                wanted.admin,
            )
        ):
            return known
        raise AdminRefused(409, "key-exists", f"there is another access key {known.access_key}")

    def _document(self, record: AccessKeyRecord) -> KeyDocument:
        return key_document(record, canonical_id(self._token.cluster, record.owner))

    async def _transact(self, compares: list[Compare], operations: list[StoreOperation]) -> bool:
        return (await self._store.transact(compares, operations)).succeeded


def _checked_secret(access_key: str, wanted: CreateKeyRequest, admin: Signer) -> str:
    if not is_owner_name(wanted.owner):
        raise AdminRefused(
            400,
            "bad-owner",
            f"{wanted.owner[:80]!r} is no owner's name; choose up to 63 of a-z, 0-9 and -,"
            " not digits alone, no - at either end",
        )
    try:
        secret = unseal_new_secret(admin.secret, access_key, wanted.secret_sealed)
        check_credentials(access_key, secret)
    except (DoesNotOpen, UnicodeDecodeError) as error:
        raise AdminRefused(400, "not-sealed", "the new secret does not open") from error
    except BadCredentials as error:
        raise AdminRefused(400, "bad-key", str(error)) from error
    return secret


def _check_room(owner: str, records: Iterable[AccessKeyRecord]) -> None:
    valid = [each.access_key for each in records if each.owner == owner and not each.disabled]
    if len(valid) >= VALID_KEYS_MAX:
        raise AdminRefused(
            409,
            "two-keys",
            f"{owner} has two valid keys, {' and '.join(sorted(valid)[:2])}; disable one first: "
            "octad key disable KEY",
        )


def _opens_all(entry: KeyValue) -> bool:
    record = decode_record(entry, AccessKeyRecord)
    return record.admin and not record.disabled


def _is_as(entry: KeyValue) -> ModRevisionIs:
    return ModRevisionIs(entry.key, entry.mod_revision)


def _busy() -> StoreUnavailable:
    return StoreUnavailable("access keys keep being changed by somebody else")
