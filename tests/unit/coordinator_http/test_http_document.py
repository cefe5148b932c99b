"""The examples of `docs/reference/coordinator-http.md` are what the code sends, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from octad.client.cluster.doctor_document import DoctorDocument
from octad.client.cluster.internal_auth import sign
from octad.client.cluster.service_records import (
    RegisterAnswer,
    RegisterRequest,
    RenewAnswer,
    RenewRequest,
    SessionAnswer,
    SessionRequest,
    WithdrawRequest,
)
from octad.client.cluster.status_document import ClusterStatus, ShardStatus
from octad.client.kv.kv_records import KvAnswer, KvEntry, KvKeys
from octad.client.membership.event_document import EventsDocument
from octad.client.membership.lock_records import (
    LockAnswer,
    LockRequest,
    LocksDocument,
    UnlockRequest,
)
from octad.client.s3.owners import canonical_id
from octad.coordinator.schema.admin_messages import (
    BucketDocument,
    CreateKeyRequest,
    KeyDocument,
    PublicDocument,
    PublicRequest,
    QuotaRequest,
    seal_new_secret,
    unseal_new_secret,
)
from octad.coordinator.schema.join_messages import JoinRequest, RefusalMessage
from octad.coordinator.schema.recovery_messages import RecoverAnswer, RecoverRequest
from octad.coordinator.store.open_store import StoreAddress

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "coordinator-http.md"
EXAMPLES: list[str] = [
    text
    for text in re.findall(r"^```json\n([^\n]+)\n```$", DOCUMENT.read_text(), re.MULTILINE)
    if "…" not in text
]
KINDS: list[type] = [
    RefusalMessage,
    CreateKeyRequest,
    KeyDocument,
    QuotaRequest,
    BucketDocument,
    PublicRequest,
    PublicDocument,
    JoinRequest,
    StoreAddress,
    SessionRequest,
    SessionAnswer,
    RegisterRequest,
    RegisterAnswer,
    WithdrawRequest,
    RenewRequest,
    RenewAnswer,
    LockRequest,
    LockAnswer,
    UnlockRequest,
    LocksDocument,
    KvAnswer,
    KvEntry,
    KvKeys,
    EventsDocument,
    ClusterStatus,
    ShardStatus,
    DoctorDocument,
    RecoverRequest,
    RecoverAnswer,
]


@pytest.mark.parametrize(("text", "kind"), list(zip(EXAMPLES, KINDS, strict=True)))
def test_an_example_is_read_and_written_again_as_it_stands(text: str, kind: type) -> None:
    assert msgspec.json.encode(msgspec.json.decode(text, type=kind)).decode() == text


def test_the_sealed_secret_is_the_one_described() -> None:
    sealed = seal_new_secret("octad-secret", "ALICEKEY", "alice-secret", bytes(range(12)))
    assert f'"secret_sealed":"{sealed}"' in DOCUMENT.read_text()
    assert unseal_new_secret("octad-secret", "ALICEKEY", sealed) == "alice-secret"
    owner_id = canonical_id("1a2b3c4d", "alice")
    assert f'"owner_id":"{owner_id}"' in DOCUMENT.read_text()


def test_the_signature_is_the_one_described() -> None:
    header = sign(
        b"k" * 32, "5d41402abc4b2a76", "POST", "/a?b", b"body", 1_800_000_000_000, bytes(range(16))
    )
    assert f"\nAuthorization: {header}\n" in DOCUMENT.read_text()
