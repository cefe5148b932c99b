"""Services in the form in which Consul's clients read them: pure functions of what is there.

What Traefik, Prometheus' `consul_sd` and Consul's libraries ask for: the services' names, the
instances of one, and which cluster this is. Labels are both tags (`name=value`) and metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any  # Documents of Consul's.

from msgspec import UNSET

from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership.choosing import passes
from octad.client.runtime.address import parse_address

_STATUSES = {"ok": "passing", "degraded": "warning"}
_CHECK_NAMES = {"service": "health", "check": "check", "_service_maintenance": "drain"}
_WAIT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def consul_wait_s(text: str) -> float | None:
    """A duration as Consul takes it (`5m`, `30s`, `500ms`); None if it is not one."""
    found = _WAIT.fullmatch(text)
    return None if found is None else float(found[1]) * _SECONDS[found[2]]


def service_names(instances: Iterable[ServiceInstance]) -> dict[str, list[str]]:
    """All services, with the tags that any instance of each has."""
    tags: dict[str, set[str]] = {}
    for instance in instances:
        tags.setdefault(instance.service, set()).update(tags_of(instance))
    return {service: sorted(found) for service, found in sorted(tags.items())}


def service_entries(
    instances: Iterable[ServiceInstance], cluster: str, *, passing: bool, tags: Iterable[str]
) -> list[dict[str, Any]]:
    """The instances that have all of `tags`; `passing`: those that are well and want work."""
    wanted = set(tags)
    return [
        _entry(instance, cluster)
        for instance in instances
        if wanted <= set(tags_of(instance)) and (not passing or passes(instance))
    ]


def tags_of(instance: ServiceInstance) -> list[str]:
    """A label without a value is a tag by its name alone."""
    return sorted(f"{n}={v}" if v else n for n, v in instance.labels.items())


def agent_self(cluster: str, version: str) -> dict[str, Any]:
    """Whom a client talks to; Prometheus asks for the name of the data centre."""
    return {
        "Config": {
            "Datacenter": cluster,
            "PrimaryDatacenter": cluster,
            "NodeName": "octad",
            "Server": True,
            "Version": version,
        },
        "Member": {"Name": "octad", "Tags": {"dc": cluster}},
    }


def _entry(instance: ServiceInstance, cluster: str) -> dict[str, Any]:
    address = parse_address(instance.address)
    node = {
        "ID": "",
        "Node": address.host,
        "Address": address.host,
        "Datacenter": cluster,
        "TaggedAddresses": {},
        "Meta": {},
        "CreateIndex": 0,
        "ModifyIndex": 0,
    }
    told = {"zone": instance.zone, "version": instance.version}
    service = {
        "ID": instance.instance,
        "Service": instance.service,
        "Tags": tags_of(instance),
        "Address": address.host,
        "Port": address.port,
        "Meta": {**{n: v for n, v in told.items() if v}, **instance.labels},
        "Weights": {"Passing": max(1, round(instance.weight)), "Warning": 1},
        "EnableTagOverride": False,
        "CreateIndex": 0,
        "ModifyIndex": 0,
    }
    return {"Node": node, "Service": service, "Checks": _checks(instance, address.host)}


def _checks(instance: ServiceInstance, node: str) -> list[dict[str, Any]]:
    status = _STATUSES.get(instance.health, "critical")
    statuses = {f"service:{instance.instance}": status}
    if instance.check is not UNSET:
        passed = instance.check_passes is True
        statuses[f"check:{instance.instance}"] = "passing" if passed else "critical"
    if instance.drain:
        statuses[f"_service_maintenance:{instance.instance}"] = "critical"
    return [
        {
            "Node": node,
            "CheckID": name,
            "Name": _CHECK_NAMES[name.partition(":")[0]],
            "Status": status,
            "Notes": "",
            "Output": "",
            "ServiceID": instance.instance,
            "ServiceName": instance.service,
            "ServiceTags": tags_of(instance),
        }
        for name, status in statuses.items()
    ]
