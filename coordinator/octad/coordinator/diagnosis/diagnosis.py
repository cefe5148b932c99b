"""What is wrong with the cluster, and what to do: a pure function of its known state.

Each kind of finding is one function; `findings` puts the most urgent first. Liveness is that of the
store's leases, which end up to ten seconds after a node does: a hint, good enough to act by hand.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from octad.client.cli.format_units import shown_bytes, shown_time
from octad.client.cluster.doctor_document import Finding, Urgency
from octad.coordinator.diagnosis.etcd_versions import old_etcd
from octad.coordinator.diagnosis.filling_findings import journal_findings
from octad.coordinator.diagnosis.finding_words import (
    any_of,
    are,
    counted,
    moment,
    named,
    nodes_named,
)
from octad.coordinator.placement.placement_goals import NO_SPARE
from octad.coordinator.placement.placement_view import PlacementView, is_live
from octad.coordinator.placement.spares import choose_spare
from octad.coordinator.recovery.forced_recovery import candidates, complete_members, is_orphaned
from octad.coordinator.schema.cluster_view import Departure
from octad.coordinator.schema.node_report import INDEX_REBUILDING, INDEX_WAITING
from octad.coordinator.status.cluster_status import NO_FAILURES, NodeFailure
from octad.coordinator.status.known_copies import NOTHING_KNOWN, KnownCopies
from octad.sharding.ids import NodeId, ShardId, node_name, pool_of
from octad.sharding.map.pool_names import pool_names
from octad.sharding.map.shard_map import ShardConfiguration

FREE_SHARE_MIN = 0.1  # Free share of a disk; below it, someone has to act.
FREE_SHARE_TINY = 0.03  # Below, writes are about to be refused.
STORE_OLD_S = 10.0
_ORDER: dict[Urgency, int] = {"unavailable": 0, "at-risk": 1, "to-do": 2, "note": 3}


@dataclass(frozen=True, slots=True)
class Known:
    """The inputs of a diagnosis."""

    placement: PlacementView
    departures: Mapping[NodeId, Departure] = field(default_factory=dict)
    copies: KnownCopies = NOTHING_KNOWN
    time_left_s: float | None = None
    has_leader: bool = True
    store_age_s: float = 0.0
    store_versions: Mapping[str, str] = field(default_factory=dict)  # etcd's versions, by endpoint.
    problems: tuple[str, ...] = ()  # Why the leader's plans, or its duties, do not go on.
    failures: Mapping[NodeId, NodeFailure] = field(default_factory=lambda: NO_FAILURES)


def findings(known: Known) -> list[Finding]:
    """Returns the findings, most urgent first."""
    found = [
        *_store(known),
        *old_etcd(known.store_versions),
        *_leader(known),
        *_without_primary(known),
        *_last_copies(known),
        *journal_findings(known.copies, _told_otherwise(known)),
        *_indexes(known),
        *_read_only(known),
        *_failed(known),
        *_not_started(known),
        *_away(known),
        *_without_spare(known),
        *_different(known),
        *_void(known),
        *_damaged(known),
        *_disks(known),
        *_versions(known),
        *_refused_plans(known),
        *_unverified(known),
        *_being_copied(known),
        *_one_copy(known),
    ]
    return sorted(found, key=lambda finding: _ORDER[finding.urgency])


# -- the configuration store and its leader ----------------------------------------------------


def _store(known: Known) -> Iterator[Finding]:
    if known.store_age_s > STORE_OLD_S:
        yield Finding(
            "store-silent",
            "at-risk",
            f"the configuration store has not answered for {shown_time(known.store_age_s)}: nodes"
            " serve on, but no one can take a dead node's place; what follows is as old",
            "start the store, or repair the network to it (octad status shows where it is)",
        )


def _leader(known: Known) -> Iterator[Finding]:
    if not known.has_leader:
        yield Finding(
            "no-leader",
            "to-do",
            "no coordinator leads: nothing is planned, no new pool gets its shards",
            "if it lasts, look at the coordinators' logs: each campaigns by itself",
        )


# -- shards ------------------------------------------------------------------------------------


def _without_primary(known: Known) -> Iterator[Finding]:
    """Grouped by the remedy: takeover, a node that comes back, or an operator's decision."""
    view = known.placement
    waiting: list[ShardId] = []
    recoverable: dict[tuple[NodeId, ...], list[ShardId]] = defaultdict(list)
    orphaned: dict[tuple[NodeId, ...], list[ShardId]] = defaultdict(list)
    for shard, configuration in sorted(view.cluster.configurations.items()):
        if is_orphaned(configuration, view.cluster.nodes):
            full = tuple(sorted(member.node for member in complete_members(configuration)))
            kind = recoverable if candidates(configuration, view.cluster.nodes) else orphaned
            kind[full].append(shard)
        elif not is_live(
            view, configuration.primary, _incarnation(configuration, configuration.primary)
        ):
            waiting.append(shard)
    for nodes, shards in orphaned.items():
        yield Finding(
            "no-copy",
            "unavailable",
            f"{named(shards)} unavailable: every complete copy is on {nodes_named(nodes)}, which"
            f" {are(nodes)} away, and no live node has an older one",
            f"start {any_of(nodes)} with the disk it had",
        )
    for nodes, shards in recoverable.items():
        yield Finding(
            "lone-survivor-away",
            "unavailable",
            f"{named(shards)} unavailable: only {nodes_named(nodes)}, which {are(nodes)} away,"
            f" {'has' if len(nodes) == 1 else 'have'} all that was acknowledged",
            f"start {any_of(nodes)}; only if {'it is' if len(nodes) == 1 else 'all are'} gone for"
            " good: octad shards recover --all (says first what would be lost)",
        )
    if waiting:
        yield Finding(
            "no-primary",
            "unavailable",
            f"{named(waiting)} without a live primary; another member takes over",
            "wait: after a start of the whole cluster it takes ten seconds; if it stays, look at"
            " the logs of the members (octad shards ls)",
        )


def _last_copies(known: Known) -> Iterator[Finding]:
    """Shards that the next loss makes unavailable."""
    view = known.placement
    lonely: dict[NodeId, list[ShardId]] = defaultdict(list)
    for shard, configuration in sorted(view.cluster.configurations.items()):
        pool = view.cluster.pools.get(pool_of(shard))
        if pool is not None and pool.replicas > 1 and known.copies.verified.get(shard) == 1:
            lonely[configuration.primary].append(shard)
    for node, shards in sorted(lonely.items()):
        yield Finding(
            "last-copy",
            "at-risk",
            f"{named(shards)} with one verified copy, on {node_name(node)}: without it they are"
            " unavailable",
            f"keep {node_name(node)} running until others have copies (octad status shows when)",
        )


def _unverified(known: Known) -> Iterator[Finding]:
    view = known.placement
    silent: dict[NodeId, list[ShardId]] = defaultdict(list)
    compared: list[ShardId] = []
    for shard, configuration in sorted(view.cluster.configurations.items()):
        led = is_live(
            view, configuration.primary, _incarnation(configuration, configuration.primary)
        )
        if shard in known.copies.compared:
            compared.append(shard)
        elif led and not known.copies.verified.get(shard):
            silent[configuration.primary].append(shard)
    for node, shards in sorted(silent.items()):
        yield Finding(
            "unverified",
            "to-do",
            f"{named(shards)} of which {node_name(node)}, their primary, has not verified the"
            " copies yet, or does not serve yet",
            f"wait some seconds; if it stays, look at the log of {node_name(node)}",
        )
    if compared:
        yield Finding(
            "comparing",
            "note",
            f"the copies of {named(compared)} are being compared, as after every start: so long"
            " no one counts them as verified",
            "nothing: it takes seconds, after a split or an upgrade until all rows were counted",
        )


def _without_spare(known: Known) -> Iterator[Finding]:
    view = known.placement
    held: Counter[NodeId] = Counter()
    short: dict[int, list[ShardId]] = defaultdict(list)
    for shard, configuration in sorted(view.cluster.configurations.items()):
        pool = view.cluster.pools.get(pool_of(shard))
        if pool is None or len(configuration.members) >= pool.replicas or configuration.learners:
            continue
        if choose_spare(view, shard, configuration, held) is None:
            short[pool.replicas].append(shard)
    usable = {node.id for node in view.usable_nodes()}
    drained = sorted(node for node in view.cluster.nodes if node not in usable)
    for replicas, shards in sorted(short.items()):
        but = f", {nodes_named(drained)} {are(drained)} drained or removed" if drained else ""
        yield Finding(
            "no-spare",
            "to-do",
            f"{named(shards)} with fewer than {replicas} copies, and no node may take another:"
            f" {len(usable)} can hold data{but}",
            "start the nodes that are away, or add one: octad node (see octad node ls)",
        )


def _being_copied(known: Known) -> Iterator[Finding]:
    copies = known.copies
    if copies.missing:
        yield Finding(
            "copies-missing",
            "to-do",
            f"{copies.missing} copies are missing, {len(copies.copying)} under way:"
            f" {shown_bytes(copies.bytes_left)} left, time left: {shown_time(known.time_left_s)}",
            "nothing: it is done by itself (octad status shows how far it is)",
        )


def _one_copy(known: Known) -> Iterator[Finding]:
    """Reported once for all such pools: someone chose this, and may have forgotten."""
    pools = known.placement.cluster.pools.values()
    names = pool_names(pools)
    single = [names[pool.id] for pool in pools if pool.replicas == 1]
    if single:
        yield Finding(
            "one-copy",
            "note",
            f"{', '.join(single)} keeps 1 copy, as asked for: what a lost disk held is lost",
            "for data that must outlive a disk: octad pool create --replicas 3, then a bucket"
            " there, and copy (a bucket never changes its pool)",
        )


# -- nodes -------------------------------------------------------------------------------------


def _not_started(known: Known) -> Iterator[Finding]:
    """Replaces `node-away` where the reason is known."""
    for _, failure in sorted(known.failures.items()):
        yield Finding("node-failed", "to-do", failure.what, failure.fix)


def _away(known: Known) -> Iterator[Finding]:
    view = known.placement
    holds: dict[NodeId, list[ShardId]] = defaultdict(list)
    for shard, configuration in sorted(view.cluster.configurations.items()):
        disks = [(m.node, m.incarnation) for m in configuration.members]
        disks += [(f.node, f.incarnation) for f in configuration.last_full]
        for node, disk in dict.fromkeys(disks):
            if not is_live(view, node, disk):
                holds[node].append(shard)
    for node, identity in sorted(view.cluster.identities.items()):
        if node in view.cluster.nodes or view.settings_of(node).removed:
            continue
        if node in known.failures or node in known.copies.replaced:
            continue  # A finding of its own.
        name, gone = node_name(identity.id), known.departures.get(node)
        since = f" since {moment(gone.gone_since_ms)}" if gone is not None else ""
        what = f"{named(holds[node])} had copies there" if holds[node] else "no data concerned"
        yield Finding(
            "node-away",
            "to-do",
            f"{name} is away{since}: {what}",
            "start it again (end its process first, if that is there and does nothing); if it is"
            f" gone for good: octad node remove {name}",
        )


def _different(known: Known) -> Iterator[Finding]:
    """Either side may be the one that lacks rows; a damaged index is found by counting them."""
    configurations = known.placement.cluster.configurations
    for node, shards in sorted(known.copies.different.items()):
        name = node_name(node)
        primaries = nodes_named(sorted({configurations[shard].primary for shard in shards}))
        yield Finding(
            "different-copies",
            "at-risk",
            f"{named(shards)} of which {name} has other rows than {primaries}, where they are"
            " led: one of the two lacks what was acknowledged; both count their rows now, and whose"
            " index is damaged makes it anew by itself",
            f"wait for that; if it stays, the log of {primaries} says how many rows each has ('both"
            " count'): octad node drain the one with fewer",
        )


def _void(known: Known) -> Iterator[Finding]:
    for node, shards in sorted(known.copies.void.items()):
        name = node_name(node)
        yield Finding(
            "void-copies",
            "to-do",
            f"{name} has void copies of {named(shards)}: they were recovered without it, and it"
            " can not take them again",
            f"octad node drain {name}; then stop it, move its data directory away (writes that were"
            " lost may still be in there) and start it: it joins as a new node",
        )


def _failed(known: Known) -> Iterator[Finding]:
    """Replicas that hit a bug. If no other member is complete, the shard is not served."""
    configurations = known.placement.cluster.configurations
    for node, shards in sorted(known.copies.failed.items()):
        name = node_name(node)
        alone = [
            shard
            for shard in shards
            if shard in configurations and _is_alone(configurations[shard], node)
        ]
        others = [shard for shard in shards if shard not in alone]
        if alone:
            yield _failed_copies("unavailable", name, alone, "and no one else has all of it")
        if others:
            yield _failed_copies("at-risk", name, others, "and others do without it")


def _failed_copies(urgency: Urgency, name: str, shards: list[ShardId], so: str) -> Finding:
    return Finding(
        "failed-copies",
        urgency,
        f"{named(shards)} hit a bug on {name}: it takes no part there, {so}",
        f"restart {name}: what is on its disk stays good; its log says what the bug was ('met a"
        " bug'): please report it",
    )


def _is_alone(configuration: ShardConfiguration, node: NodeId) -> bool:
    return all(member.node == node for member in configuration.members if member.base == 0)


def _told_otherwise(known: Known) -> set[NodeId]:
    """Nodes that need no further finding."""
    view = known.placement
    return {*known.failures, *(node for node in view.settings if view.settings_of(node).removed)}


def _indexes(known: Known) -> Iterator[Finding]:
    for node, state in sorted(known.copies.indexes.items()):
        if node in known.copies.anew_wait_for or known.placement.settings_of(node).removed:
            continue  # A finding of its own, or none.
        name = node_name(node)
        if state == INDEX_REBUILDING:
            yield Finding(
                "index-rebuilding",
                "to-do",
                f"the index of {name} is damaged and is made anew from its journal: nothing is"
                " lost; until then its copies are not read and do not count as verified",
                "nothing: it is done by itself; if it comes again, replace the disk",
            )
            continue
        if state == INDEX_WAITING:
            yield Finding(
                "index-waiting",
                "to-do",
                f"the index of {name} is damaged, and another cannot be made from its journal now:"
                " its log says why; nothing is lost, but its copies are not read",
                f"make room on the disk of {name}: it tries again by itself, every minute",
            )
            continue
        yield Finding(
            "index-lost",
            "at-risk",
            f"the index of {name} is damaged, and its journal cannot be read to make it anew: its"
            " copies are not read; the others have the data, as far as their copies are verified",
            f"octad node drain {name}; then stop it, move its data directory away and start it: it"
            " joins as a new node and is filled from the others",
        )


def _read_only(known: Known) -> Iterator[Finding]:
    for node in sorted(known.copies.read_only):
        name = node_name(node)
        more = "give the disk more room, or delete data; or add a node (octad node add), and move"
        more += f" copies to it: octad node drain {name}"
        size, within_s = known.copies.returning.get(node, (0, 0.0))
        when = f"{shown_bytes(size)} of deleted objects come back within about"
        yield Finding(
            "read-only",
            "unavailable",
            f"the disk of {name} is full: writes to its shards are refused; reads and deletes go"
            + (f" on; {when} {shown_time(within_s)}" if size else " on"),
            f"wait for that; if it is not enough: {more}" if size else more,
        )


def _damaged(known: Known) -> Iterator[Finding]:
    """Never advises to write again what may still come back."""
    for node, damage in sorted(known.copies.damaged.items()):
        name = node_name(node)
        replace = f"if it grows, replace the disk: octad node drain {name}"
        if damage.lost:
            yield Finding(
                "lost-records",
                "unavailable",
                f"{counted(damage.lost, 'record')} on the disk of {name} cannot be read, nor can"
                " any other copy",
                f"the log of {name} names the objects ('lost: every copy'): write these again, or"
                f" delete them; {replace}",
            )
        if damage.left:
            yield Finding(
                "damaged-records",
                "at-risk",
                f"{counted(damage.left, 'record')} on the disk of {name} cannot be read, and no"
                " intact copy has come so far: nothing is known to be lost",
                "start the nodes that are away: it is tried again every minute, and repaired by"
                f" itself; {replace}",
            )
        if damage.repaired or damage.passed:
            yield Finding(
                "disk-errors",
                "note",
                f"since {name} was started, its disk had {counted(damage.passed, 'read error')}"
                f" that passed, and {counted(damage.repaired, 'damaged record')} that other"
                " copies replaced: nothing of it is lost",
                f"nothing; {replace}",
            )


def _disks(known: Known) -> Iterator[Finding]:
    view = known.placement
    for node, usage in sorted(view.usage.items()):
        if node not in view.cluster.nodes or usage.capacity_bytes <= 0:
            continue
        if node in known.copies.read_only:
            continue  # A finding of its own.
        share = usage.free_bytes / usage.capacity_bytes
        if share >= FREE_SHARE_MIN:
            continue
        yield Finding(
            "disk-full",
            "at-risk" if share < FREE_SHARE_TINY else "to-do",
            f"the disk of {node_name(node)} has {shown_bytes(usage.free_bytes)} left"
            f" ({share:.0%})" + (": it refuses writes soon" if share < FREE_SHARE_TINY else ""),
            "add a node: octad node add; or delete data, or give the disk more room",
        )


def _versions(known: Known) -> Iterator[Finding]:
    nodes = known.placement.cluster.nodes.values()
    versions = sorted({node.version for node in nodes})
    if len(versions) > 1:
        by_version = [
            f"{version} on {nodes_named(sorted(n.id for n in nodes if n.version == version))}"
            for version in versions
        ]
        yield Finding(
            "versions",
            "to-do",
            f"nodes run different versions: {', '.join(by_version)}",
            "finish the upgrade: the same version on every node",
        )


# -- plans -------------------------------------------------------------------------------------


def _refused_plans(known: Known) -> Iterator[Finding]:
    view = known.placement
    reasons: dict[str, list[ShardId]] = defaultdict(list)
    for shard, stored in sorted(view.progress.items()):
        plan, progress = view.plans.get(shard), stored.record
        if plan is not None and progress.plan == plan.revision and progress.state == "refused":
            reasons[f"{node_name(progress.node)} refuses: {progress.reason}"].append(shard)
    for reason, shards in reasons.items():
        yield _stuck(f"a plan for {named(shards)}: {reason}")
    for problem in known.problems:
        if NO_SPARE not in problem:  # A finding of its own.
            yield _stuck(problem)


def _stuck(what: str) -> Finding:
    fix = "it is tried again by itself; octad rebalance --stop gives up what was asked for"
    return Finding("plan-refused", "to-do", what, fix)


def _incarnation(configuration: ShardConfiguration, node: NodeId) -> str:
    member = configuration.member(node)
    return "" if member is None else member.incarnation
