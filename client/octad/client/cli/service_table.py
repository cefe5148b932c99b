"""Instances of services as text for people: aligned columns."""

from __future__ import annotations

import msgspec

from octad.client.cli.status_table import columns
from octad.client.cluster.cluster_documents import ServicesDocument
from octad.client.cluster.service_records import ServiceInstance
from octad.client.cluster.view_age import shown_old_view

_HEADINGS = ("SERVICE", "INSTANCE", "ADDRESS", "HEALTH", "ZONE", "WEIGHT", "VERSION", "LABELS")


def service_table(
    document: ServicesDocument, name: str | None = None, *, narrowed: bool = False
) -> str:
    """Returns complete lines for the service `name`, from a document of all services.

    `narrowed`: of those that were asked for.
    """
    records = [msgspec.json.decode(each, type=ServiceInstance) for each in document.services]
    rows = [_row(record) for record in records if name in (None, record.service)]
    if rows:
        lines = columns([_HEADINGS, *rows])
    elif narrowed:
        lines = ["no such instance is registered"]
    elif records:
        others = ", ".join(sorted({record.service for record in records}))
        lines = [f"no instance of {name} is registered; there is: {others}"]
    else:
        lines = ["no service is registered"]
    if (warning := shown_old_view(document.age_s)) is not None:
        lines.append(warning)
    return "".join(f"{line}\n" for line in lines)


def _health(record: ServiceInstance) -> str:
    told = [record.health]
    if record.check is not msgspec.UNSET and record.check_passes is not True:
        fails = record.check_passes is False
        told.append("fails its check" if fails else "not checked yet")
    if record.drain:
        told.append("draining")
    return ", ".join(told)


def _row(record: ServiceInstance) -> tuple[str, ...]:
    return (
        record.service,
        record.instance,
        record.address,
        _health(record),
        record.zone or "-",
        f"{record.weight:g}",
        record.version or "-",
        ",".join(f"{name}={value}" for name, value in sorted(record.labels.items())) or "-",
    )
