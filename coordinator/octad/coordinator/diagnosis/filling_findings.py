"""The doctor's findings on nodes that are refilled from the others (`filling_anew.py`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from octad.client.cluster.doctor_document import Finding
from octad.coordinator.status.known_copies import KnownCopies
from octad.sharding.ids import NodeId, node_name


def journal_findings(copies: KnownCopies, told_otherwise: Collection[NodeId]) -> Iterator[Finding]:
    """Findings on nodes with a damaged journal, and on those that replaced one."""
    for node, waits_for in sorted(copies.anew_wait_for.items()):
        if node in told_otherwise:
            continue
        what = "journal and the index" if node in copies.indexes else "journal"
        are = "are" if node in copies.indexes else "is"
        yield Finding(
            "journal-damaged",
            "at-risk",
            f"the {what} of {node_name(node)} {are} damaged; the others fill it anew by themselves,"
            f" but for this: {waits_for}",
            _way_out(copies, node),
        )
    for old, node in sorted(copies.replaced.items()):
        yield Finding(
            "filled-anew",
            "to-do",
            f"the journal of {node_name(old)} was damaged: {node_name(node)} is in its place and is"
            f" filled by the others; what {node_name(old)} had is kept beside it (set-aside-… in"
            " its data directory) until all copies are there again",
            f"nothing: it is done by itself, and {node_name(old)} is forgotten then",
        )


def _way_out(copies: KnownCopies, node: NodeId) -> str:
    """Two with damaged journals wait for each other where one copy is left beside them."""
    name = node_name(node)
    others = ", ".join(node_name(each) for each in sorted(copies.anew_wait_for) if each != node)
    if others and copies.verified and all(copies.verified.values()):
        return (
            "start the nodes that are away; where none is: each shard has a verified copy"
            f" elsewhere, so stop {name}, move its data directory away (keep it until all is well)"
            f" and start it: it joins as a new node and is filled, and {others} after it; then"
            f" octad node remove {name}"
        )
    return (
        "start the nodes that are away, and see to what is in the way; a shard that no one has"
        " a complete copy of: octad shards recover --all (says first what would be lost)"
    )
