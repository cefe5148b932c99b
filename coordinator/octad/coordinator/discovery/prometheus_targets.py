"""What Prometheus is to scrape, as its `http_sd` reads it: a pure function of what is there."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from octad.client.cluster.service_records import ServiceInstance
from octad.coordinator.schema.records import NodeRecord
from octad.sharding.ids import node_name

NODE_SERVICE = "octad-node"  # The cluster's own nodes, at their admin ports.
_LABEL = "__meta_octad_"


class TargetGroup(msgspec.Struct, frozen=True):
    """Prometheus drops labels that begin with two underscores, once relabelling has used them."""

    targets: tuple[str, ...]
    labels: dict[str, str]


def service_targets(instances: Iterable[ServiceInstance]) -> list[TargetGroup]:
    """A group for each instance, since each has labels of its own."""
    return [
        TargetGroup(
            (instance.address,),
            {
                f"{_LABEL}service": instance.service,
                f"{_LABEL}instance": instance.instance,
                f"{_LABEL}zone": instance.zone,
                f"{_LABEL}version": instance.version,
                f"{_LABEL}health": instance.health,
                f"{_LABEL}drain": str(instance.drain).lower(),
                **{
                    f"{_LABEL}label_{_plain(name)}": value
                    for name, value in instance.labels.items()
                },
            },
        )
        for instance in instances
    ]


def node_targets(nodes: Iterable[NodeRecord]) -> list[TargetGroup]:
    """The nodes whose metrics can be asked for."""
    return [
        TargetGroup(
            (node.admin_address,),
            {
                f"{_LABEL}service": NODE_SERVICE,
                f"{_LABEL}instance": node_name(node.id),
                f"{_LABEL}zone": node.zone,
                f"{_LABEL}version": node.version,
            },
        )
        for node in nodes
        if node.admin_address
    ]


def _plain(name: str) -> str:
    """As Prometheus spells the names of labels."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
