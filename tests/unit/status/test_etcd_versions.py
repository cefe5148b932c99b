"""An etcd with faults that concern a coordinator is told of, all members at once."""

from __future__ import annotations

import pytest

from octad.coordinator.diagnosis.etcd_versions import RECOMMENDED, is_old, old_etcd


@pytest.mark.parametrize(
    "version",
    ["3.3.27", "3.4.0", "3.4.23", "3.4.41", "3.5.9", "3.5.27", "3.6.0", "3.6.8", "2.3.8",
     "3.6.9-rc.1", "3.4.23+dfsg"],
)  # fmt: skip
def test_an_etcd_with_faults_is_old(version: str) -> None:
    assert is_old(version)


@pytest.mark.parametrize(
    "version",
    ["3.4.42", "3.4.100", "3.5.28", "3.6.9", "3.7.0", "4.0.0", "3.6.9+debian", "", "unknown",
     "3.4", "9" * 30],
)  # fmt: skip
def test_an_etcd_without_them_or_something_else_is_not(version: str) -> None:
    assert not is_old(version)


def test_all_old_members_are_named_in_one_finding_with_what_will_do() -> None:
    members = {"b:2379": "3.4.23", "a:2379": "3.5.1", "c:2379": "3.6.9"}
    (finding,) = old_etcd(members)
    assert (finding.code, finding.urgency) == ("old-etcd", "to-do")
    assert "3.5.1 at a:2379, 3.4.23 at b:2379" in finding.what
    assert "c:2379" not in finding.what
    for number in RECOMMENDED:
        assert ".".join(map(str, number)) in finding.fix
    assert not list(old_etcd({"c:2379": "3.6.9"}))
    assert not list(old_etcd({}))
