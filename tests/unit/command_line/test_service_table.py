"""`octad service ls` shows who is there, says what is not, and how old that is."""

from __future__ import annotations

import msgspec

from octad.client.cli.service_table import service_table
from octad.client.cluster.cluster_documents import ServicesDocument
from octad.client.cluster.service_records import ServiceInstance


def document(*services: str, age_s: float = 0.4) -> ServicesDocument:
    records = [ServiceInstance(service=name, instance="a", address="h:1") for name in services]
    return ServicesDocument(7, tuple(msgspec.Raw(msgspec.json.encode(r)) for r in records), age_s)


def test_one_service_is_shown_without_the_others() -> None:
    shown = service_table(document("db", "web"), "web")
    assert "web" in shown
    assert "db" not in shown


def test_a_service_that_is_not_there_is_told_from_none_at_all() -> None:
    absent = service_table(document("web", "db", "web"), "wbe")
    assert absent == "no instance of wbe is registered; there is: db, web\n"
    for name in (None, "web"):
        assert service_table(document(), name) == "no service is registered\n"


def test_what_is_old_is_said_to_be_so() -> None:
    assert service_table(document(age_s=12.3)).endswith(
        "! 12 s old: the configuration store does not answer\n"
    )
