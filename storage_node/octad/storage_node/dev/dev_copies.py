"""`octad dev`'s messages about its number of copies, and how to get more."""

from __future__ import annotations

from pathlib import Path

from octad.client.cli.format_units import shown_copies
from octad.client.runtime.shown_command import shown_command
from octad.sharding.map.pool_names import POOL_NAME_PREFIX
from octad.storage_node.dev.dev_directory import REPLICAS_DEFAULT, DevCluster


def copies_line(cluster: DevCluster) -> str:
    """One line on fewer copies than usual; empty for the usual number."""
    if cluster.replicas == 1:
        return "  copies       1: what a lost disk held is lost\n"
    if cluster.nodes < REPLICAS_DEFAULT:
        return (
            "  copies       2: two nodes have room for no more (--nodes 3 says how to get three)\n"
        )
    return ""


def way_to_more_copies(cluster: DevCluster, octad: str, data: Path) -> list[str]:
    """For a cluster that was given nodes, and keeps no more copies for that; else empty."""
    if cluster.replicas >= REPLICAS_DEFAULT:
        return []
    create = ("pool", "create", "--replicas", str(REPLICAS_DEFAULT), "--data", data)
    location = f"LocationConstraint={POOL_NAME_PREFIX}{REPLICAS_DEFAULT}x"
    kept = shown_copies(cluster.replicas)
    return [
        f"what is here keeps {kept}: a bucket never changes its pool. For three copies:",
        f"  {shown_command(octad, *create)}",
        f"  aws s3api create-bucket --bucket NEW --create-bucket-configuration {location}",
        "  aws s3 sync s3://OLD s3://NEW",
        "",
    ]
