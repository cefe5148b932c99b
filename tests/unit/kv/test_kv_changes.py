"""Settings stay within their bounds to the byte, and what changed is never overlooked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.kv.kv_records import (
    KV_BYTES_MAX,
    KV_KEYS_MAX,
    KV_VALUE_BYTES_MAX,
    BadKey,
    check_key,
    check_value,
)
from octad.coordinator.kv import kv_changes
from octad.coordinator.kv.kv_changes import KvChanges, KvFull, KvSeen, OtherRevision, usage_of
from octad.coordinator.schema.records import KvUsageRecord
from octad.coordinator.store.interface import Delete, KeyValue, ModRevisionIs, Put, Revision

PREFIX, USAGE = "octad/kv/1a2b3c4d/", "octad/kv-usage/1a2b3c4d"


def seen(value: bytes | None, keys: int, size: int, name: str = "a") -> KvSeen:
    at = Revision(7)
    usage = KeyValue(USAGE, msgspec.json.encode(KvUsageRecord(keys, size)), at, at)
    entry = None if value is None else KeyValue(PREFIX + name, value, at, at)
    return KvSeen(PREFIX + name, name, entry, USAGE, usage)


def counted(value: bytes | None, before: KvSeen) -> KvUsageRecord:
    _, (operation, usage) = before.change(value, None)
    assert isinstance(operation, Delete if value is None else Put)
    assert isinstance(usage, Put)
    return msgspec.json.decode(usage.value, type=KvUsageRecord)


def test_a_change_compares_the_key_and_the_count() -> None:
    compares, _ = seen(b"x", 1, 2).change(b"y", 7)
    assert compares == (ModRevisionIs(PREFIX + "a", Revision(7)), ModRevisionIs(USAGE, Revision(7)))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.binary(max_size=9)), max_size=30))
def test_the_count_is_what_counting_everything_anew_gives(
    changes: list[tuple[str, bytes | None]],
) -> None:
    there: dict[str, bytes] = {}
    usage = KvUsageRecord()
    for name, value in changes:
        usage = counted(value, seen(there.get(name), usage.keys, usage.bytes, name))
        if value is None:
            there.pop(name, None)
        else:
            there[name] = value
        assert usage == usage_of(PREFIX, {PREFIX + key: each for key, each in there.items()})


def test_the_bounds_hold_to_the_byte_and_what_shrinks_is_allowed() -> None:
    full = seen(None, 1, KV_BYTES_MAX - 3)
    assert counted(b"12", full).bytes == KV_BYTES_MAX
    with pytest.raises(KvFull, match="all keys would have"):
        full.change(b"123", None)
    with pytest.raises(KvFull, match=f"there are {KV_KEYS_MAX} keys"):
        seen(None, KV_KEYS_MAX, 9).change(b"", None)
    over = seen(b"12", KV_KEYS_MAX + 5, KV_BYTES_MAX + 5)
    assert counted(b"1", over).bytes == KV_BYTES_MAX + 4
    assert counted(None, over).keys == KV_KEYS_MAX + 4


def test_a_change_for_another_revision_is_refused() -> None:
    for before, revision in ((seen(b"x", 1, 2), 6), (seen(b"x", 1, 2), 0), (seen(None, 0, 0), 7)):
        with pytest.raises(OtherRevision):
            before.change(b"y", revision)
    seen(None, 0, 0).change(b"y", 0)


def test_what_changed_since_is_known_as_far_back_as_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_changes, "CHANGES_KEPT_MAX", 2)
    changes = KvChanges()
    changes.begin(Revision(10))
    changes.add(Revision(11), "a")
    changes.add(Revision(13), "b")

    def may(name: str, after: int) -> bool:
        return changes.may_have(lambda changed: changed == name, after)

    assert [may("a", after) for after in (9, 10, 11, 13)] == [True, True, False, False]
    assert [may("b", after) for after in (9, 12, 13)] == [True, True, False]
    changes.add(Revision(14), "a")
    assert may("b", 10), "it is no longer known"
    assert [may("b", after) for after in (11, 13)] == [True, False]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a b", "ä", "x" * 257, "a\n"])
def test_a_key_fits_a_path(key: str) -> None:
    with pytest.raises(BadKey):
        check_key(key)
    for good in ("a", "app/limits", "a.b-c_d:e/" * 25 + "f"):
        check_key(good)


def test_a_value_has_a_bound() -> None:
    check_value("a", bytes(KV_VALUE_BYTES_MAX))
    with pytest.raises(BadKey, match="65537 bytes"):
        check_value("a", bytes(KV_VALUE_BYTES_MAX + 1))
