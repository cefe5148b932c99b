"""Access lists as they are kept: what is written is read, what is not understood opens nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.access_lists import (
    ANONYMOUS,
    CANNED,
    EVERYBODY,
    FULL_CONTROL,
    GROUPS,
    MEMBERS,
    PERMISSIONS,
    PRIVATE,
    READ,
    Grant,
    grants_of,
    permits,
    text_of,
)

OWNERS = ("alice", "bob", "carol-2")
GRANTS = st.lists(
    st.builds(Grant, st.sampled_from((*OWNERS, *GROUPS)), st.sampled_from(PERMISSIONS)), max_size=6
)


@given(GRANTS, st.sampled_from(OWNERS))
def test_a_list_that_is_kept_is_the_list_that_is_read(grants: list[Grant], owner: str) -> None:
    assert set(grants_of(text_of(grants, owner), owner)) == set(grants)


@pytest.mark.parametrize("name", CANNED)
def test_a_canned_list_is_kept_by_its_name_in_whatever_order(name: str) -> None:
    assert text_of(grants_of(name, "alice"), "alice") == name
    assert text_of(grants_of(name, "alice")[::-1], "alice") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "open-to-all",
        "grants:bob",
        "grants:bob=ALL",
        "grants:*=READ,bob=ALL",
        "grants:Bob=READ",
        "grants:=READ",
        "grants: *=READ",
        "grants:*=READ=READ",
        "Grants:*=READ",
        "grants:**=READ",
    ],
)
def test_what_is_not_understood_is_private(text: str) -> None:
    assert (
        grants_of(text, "alice") == grants_of(PRIVATE, "alice") == (Grant("alice", FULL_CONTROL),)
    )


@given(st.text(max_size=30))
def test_no_text_but_a_list_opens_anything(text: str) -> None:
    assert grants_of(f"x{text}", "alice") == grants_of(PRIVATE, "alice")


@pytest.mark.parametrize("given_to", PERMISSIONS)
def test_a_permission_is_itself_and_full_control_is_all(given_to: str) -> None:
    for wanted in PERMISSIONS[:-1]:
        is_so = given_to in (wanted, FULL_CONTROL)
        assert permits([Grant("bob", given_to)], "bob", wanted) == is_so
        assert not permits([Grant("bob", given_to)], "carol", wanted)
        assert not permits([Grant("bob", given_to)], ANONYMOUS, wanted)
        for asker in ("bob", ANONYMOUS):
            assert permits([Grant(EVERYBODY, given_to)], asker, wanted) == is_so
        assert permits([Grant(MEMBERS, given_to)], "bob", wanted) == is_so
        assert not permits([Grant(MEMBERS, given_to)], ANONYMOUS, wanted)


def test_nobody_is_an_owner_without_a_name() -> None:
    assert not permits(grants_of(PRIVATE, ""), "bob", READ)
