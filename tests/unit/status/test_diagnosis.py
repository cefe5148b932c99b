"""Each thing that can be wrong is said once, with what to do, the most urgent first."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from tests.unit.coordinator.cluster_records import configuration, incarnation, node, view

from octad.client.cluster.doctor_document import DoctorDocument, Finding, doctor_text, exit_code
from octad.client.cluster.status_document import CopyingStatus
from octad.coordinator.diagnosis.diagnosis import Known, findings
from octad.coordinator.placement.placement_goals import NO_SPARE
from octad.coordinator.placement.placement_view import PlacementView, Stored
from octad.coordinator.recovery.forced_recovery import forced_recovery
from octad.coordinator.schema.cluster_view import ClusterView, Departure
from octad.coordinator.schema.node_report import (
    INDEX_LOST,
    INDEX_REBUILDING,
    INDEX_WAITING,
    CopyReport,
    NodeReport,
    VerifiedCopies,
)
from octad.coordinator.schema.placement_records import (
    NodeSettings,
    PlanProgress,
    ShardPlan,
    UsageRecord,
)
from octad.coordinator.status.cluster_status import NodeFailure
from octad.coordinator.status.known_copies import (
    DiskDamage,
    KnownCopies,
    copying_status,
    known_copies,
)
from octad.coordinator.store.interface import Revision
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, parse_shard_name
from octad.sharding.map.shard_map import FormerMember, Learner, Member

SHARD = parse_shard_name("0/0")
NODES = [node(number) for number in (1, 2, 3)]
WELL = view(live=NODES, configurations=[configuration(1, 2, 3, depth=0)], depth=0)


def verified(seen: ClusterView, copies: int | None = 3, **fields: object) -> KnownCopies:
    known = KnownCopies(dict.fromkeys(seen.configurations, copies), (), {}, 0, 0)
    return KnownCopies(**{**{f: getattr(known, f) for f in known.__slots__}, **fields})


def diagnose(seen: ClusterView, copies: int | None = 3, **fields: object) -> dict[str, Finding]:
    """By code; each comes once."""
    placement = fields.pop("placement", PlacementView(seen))
    assert isinstance(placement, PlacementView)
    known = fields.pop("copies_known", verified(seen, copies))
    found = findings(Known(placement, copies=known, **fields))  # type: ignore[arg-type]
    assert len({finding.what for finding in found}) == len(found)
    return {finding.code: finding for finding in found}


def test_nothing_is_wrong_with_a_healthy_cluster() -> None:
    assert diagnose(WELL) == {}
    document = DoctorDocument((), 0.1)
    assert (exit_code(document), doctor_text(document)) == (0, "nothing is wrong\n")


def test_a_silent_store_and_a_missing_leader_are_said() -> None:
    found = diagnose(WELL, store_age_s=30.0, has_leader=False)
    assert found["store-silent"].urgency == "at-risk"
    assert "30 s" in found["store-silent"].what
    assert found["no-leader"].urgency == "to-do"


def test_a_lone_survivor_that_is_away_is_named_with_the_way_out() -> None:
    former = (FormerMember(NodeId(2), incarnation(2), Seq(9)),)
    lone = msgspec.structs.replace(configuration(1, depth=0), last_full=former)
    seen = view(live=NODES[1:], known=[1], configurations=[lone], depth=0)
    finding = diagnose(seen, None)["lone-survivor-away"]
    assert finding.urgency == "unavailable"
    assert "1 shard (0/0)" in finding.what
    assert "start n1" in finding.fix
    assert "octad shards recover" in finding.fix
    nobody = view(live=NODES[2:], known=[1, 2], configurations=[lone], depth=0)
    assert "start n1" in diagnose(nobody, None)["no-copy"].fix


def test_a_recruit_that_leads_has_everything() -> None:
    former = (FormerMember(NodeId(2), incarnation(2), Seq(9)),)
    leading = Member(NodeId(1), incarnation(1), Seq(15), Epoch(4))
    lone = msgspec.structs.replace(configuration(1, depth=0), members=(leading,), last_full=former)
    found = diagnose(view(live=NODES, known=[], configurations=[lone], depth=0), None)
    assert found.keys().isdisjoint({"lone-survivor-away", "no-copy"})
    away = diagnose(view(live=NODES[1:], known=[1], configurations=[lone], depth=0), None)
    assert "start n1" in away["lone-survivor-away"].fix


def test_when_all_are_away_any_one_of_those_who_have_everything_would_do() -> None:
    configurations = [configuration(1, 2, 3, depth=0)]
    found = diagnose(view(live=[], known=[1, 2, 3], configurations=configurations, depth=0), None)
    assert found["no-copy"].fix == "start one of n1 n2 n3 with the disk it had"
    former = (FormerMember(NodeId(3), incarnation(3), Seq(9)),)
    left = [msgspec.structs.replace(configuration(1, 2, depth=0), last_full=former)]
    finding = diagnose(view(live=NODES[2:], known=[1, 2], configurations=left, depth=0), None)
    survivors = finding["lone-survivor-away"]
    assert "only n1 n2, which are away, have all that was acknowledged" in survivors.what
    assert "start one of n1 n2; only if all are gone for good" in survivors.fix


def test_a_takeover_is_waited_for() -> None:
    seen = view(
        live=NODES[1:], known=[1], configurations=[configuration(1, 2, 3, depth=0)], depth=0
    )
    found = diagnose(seen, None)
    assert found["no-primary"].urgency == "unavailable"
    assert "unverified" not in found, "it is said once"


def test_the_next_loss_is_foreseen_and_comes_before_what_is_only_to_do() -> None:
    configurations = [
        msgspec.structs.replace(configuration(1, 2, 3, depth=0), members=configuration(1).members)
    ]
    seen = view(live=NODES, configurations=configurations, depth=0)
    found = findings(Known(PlacementView(seen), copies=verified(seen, 1, missing=2)))
    assert [f.code for f in found] == ["last-copy", "copies-missing"]
    assert "keep n1 running" in found[0].fix
    assert exit_code(DoctorDocument(tuple(found), 0.0)) == 2
    assert "last-copy" not in diagnose(
        view(live=NODES, configurations=configurations, depth=0, replicas=1),
        copies_known=verified(seen, 1),
    )


def test_a_node_that_is_away_is_named_with_since_when_and_what_it_held() -> None:
    seen = view(
        live=NODES[:2], known=[3], configurations=[configuration(1, 2, 3, depth=0)], depth=0
    )
    gone = {NodeId(3): Departure(node(3), 1_700_000_000_000)}
    finding = diagnose(seen, 2, departures=gone)["node-away"]
    assert finding.what == ("n3 is away since 2023-11-14 22:13:20Z: 1 shard (0/0) had copies there")
    assert "octad node remove n3" in finding.fix
    removed = Stored(NodeSettings(removed=True), Revision(1), b"")
    placement = PlacementView(seen, settings={NodeId(3): removed})
    assert "node-away" not in diagnose(seen, 2, placement=placement)


def test_of_a_node_that_cannot_start_its_supervisor_knows_why() -> None:
    seen = view(
        live=NODES[:2], known=[3], configurations=[configuration(1, 2, 3, depth=0)], depth=0
    )
    failures = {NodeId(3): NodeFailure("n3 cannot start: its disk fails", "replace it")}
    found = {each.code: each for each in findings(Known(PlacementView(seen), failures=failures))}
    assert found["node-failed"].what == "n3 cannot start: its disk fails"
    assert found["node-failed"].fix == "replace it"
    assert "node-away" not in found, "it is said once"


def test_too_few_nodes_to_take_a_missing_copy_is_said_with_who_is_drained() -> None:
    short = configuration(1, 2, depth=0)
    seen = view(live=NODES, configurations=[short], depth=0)
    assert "no-spare" not in diagnose(seen, 2)
    drained = Stored(NodeSettings(draining=True), Revision(1), b"")
    placement = PlacementView(seen, settings={NodeId(3): drained})
    finding = diagnose(seen, 2, placement=placement, problems=(f"shards wait: {NO_SPARE}",))
    assert "2 can hold data, n3 is drained or removed" in finding["no-spare"].what
    assert "plan-refused" not in finding, "it is said once"


def test_void_copies_are_said_with_how_their_disk_is_of_use_again() -> None:
    former = (FormerMember(NodeId(2), incarnation(2), Seq(9)),)
    lone = msgspec.structs.replace(configuration(1, depth=0), last_full=former)
    recovered = forced_recovery(lone, {NodeId(2): node(2)}).configuration
    seen = view(live=NODES, configurations=[recovered], depth=0)
    found = diagnose(seen, copies_known=known_copies(seen, {}, {}))
    assert "n1 has void copies of 1 shard (0/0)" in found["void-copies"].what
    assert "octad node drain n1" in found["void-copies"].fix
    emptied = view(live=[node(1, disk=11), node(2)], configurations=[recovered], depth=0)
    assert "void-copies" not in diagnose(emptied, copies_known=known_copies(emptied, {}, {}))


def test_a_copy_that_only_its_node_finds_void_is_said_like_one_that_a_recovery_gave_up() -> None:
    known = known_copies(WELL, {NodeId(1): report(void=("0/0",))}, {})
    assert (
        "n1 has void copies of 1 shard (0/0)"
        in diagnose(WELL, copies_known=known)["void-copies"].what
    )


def test_a_replica_that_met_a_bug_is_named_and_is_the_most_urgent_where_no_other_is_complete() -> (
    None
):
    known = known_copies(WELL, {NodeId(1): report(failed=("0/0",))}, {})
    finding = diagnose(WELL, copies_known=known)["failed-copies"]
    assert finding.urgency == "at-risk"
    assert "1 shard (0/0) hit a bug on n1" in finding.what
    assert finding.fix.startswith("restart n1")
    alone = msgspec.structs.replace(
        configuration(1, depth=0), members=configuration(1, depth=0).members[:1]
    )
    seen = view(live=NODES, configurations=[alone], depth=0)
    known = known_copies(seen, {NodeId(1): report(failed=("0/0",))}, {})
    found = findings(Known(PlacementView(seen), copies=known))
    assert (found[0].code, found[0].urgency) == ("failed-copies", "unavailable")


def test_a_node_that_refuses_writes_is_said_before_one_that_soon_will() -> None:
    usage = {NodeId(n): UsageRecord(NodeId(n), 1000, 20, {}) for n in (1, 2)}
    placement = PlacementView(WELL, usage=usage)
    known = known_copies(WELL, {NodeId(1): report(read_only=True)}, {})
    found = findings(Known(placement, copies=known))
    assert [(f.code, f.urgency) for f in found if "disk of" in f.what] == [
        ("read-only", "unavailable"),
        ("disk-full", "at-risk"),
    ]
    assert "n1" in found[0].what
    assert "octad node drain n1" in found[0].fix


def test_a_damaged_index_is_said_and_that_it_repairs_itself() -> None:
    known = known_copies(WELL, {NodeId(2): report(node=NodeId(2), index=INDEX_REBUILDING)}, {})
    (finding,) = [
        f for f in findings(Known(PlacementView(WELL), copies=known)) if "index" in f.what
    ]
    assert (finding.code, finding.urgency) == ("index-rebuilding", "to-do")
    assert "n2" in finding.what
    assert "nothing is lost" in finding.what
    assert finding.fix.startswith("nothing")
    away = view(live=NODES[:1], configurations=[configuration(1, 2, 3, depth=0)], depth=0)
    starting = {NodeId(2): report(node=NodeId(2), boot="", index=INDEX_REBUILDING)}
    assert known_copies(away, starting, {}).indexes == {NodeId(2): INDEX_REBUILDING}
    assert known_copies(WELL, starting, {}).indexes == {}, "the node is there: it knows better"


def test_an_index_that_cannot_be_made_anew_for_now_needs_room() -> None:
    known = known_copies(WELL, {NodeId(2): report(node=NodeId(2), index=INDEX_WAITING)}, {})
    (finding,) = [
        f for f in findings(Known(PlacementView(WELL), copies=known)) if "index" in f.what
    ]
    assert (finding.code, finding.urgency) == ("index-waiting", "to-do")
    assert finding.fix.startswith("make room on the disk of n2")


def test_an_index_that_cannot_be_made_anew_is_said_with_the_way_out() -> None:
    known = known_copies(WELL, {NodeId(1): report(index=INDEX_LOST)}, {})
    (finding,) = [
        f for f in findings(Known(PlacementView(WELL), copies=known)) if "index" in f.what
    ]
    assert (finding.code, finding.urgency) == ("index-lost", "at-risk")
    assert "octad node drain n1" in finding.fix


def test_a_damaged_journal_is_said_with_what_is_in_the_way_of_filling_the_node_anew() -> None:
    away = view(
        live=NODES[:2], known=[3], configurations=[configuration(1, 2, 3, depth=0)], depth=0
    )
    said = report(
        node=NodeId(3), boot="", anew_waits_for="n2 is filled anew first", index=INDEX_LOST
    )
    known = known_copies(away, {NodeId(3): said}, {})
    found = diagnose(away, copies_known=known)
    assert "the journal and the index of n3 are damaged" in found["journal-damaged"].what
    assert found["journal-damaged"].what.endswith("but for this: n2 is filled anew first")
    assert "index-lost" not in found, "it is said once"
    removed = {NodeId(3): Stored(NodeSettings(draining=True, removed=True), Revision(1), b"")}
    forgotten = diagnose(away, copies_known=known, placement=PlacementView(away, settings=removed))
    assert not forgotten.keys() & {"journal-damaged", "index-lost"}
    failures = {NodeId(3): NodeFailure("n3 cannot start: its journal is damaged", "wait")}
    told = Known(PlacementView(away), copies=known, failures=failures)
    assert "journal-damaged" not in {finding.code for finding in findings(told)}
    runs = known_copies(WELL, {NodeId(1): report(anew_waits_for="it has no room")}, {})
    assert (
        "the journal of n1 is damaged" in diagnose(WELL, copies_known=runs)["journal-damaged"].what
    )


def test_two_damaged_journals_that_wait_for_each_other_are_said_with_the_way_out() -> None:
    """Beside them one copy is left, and either is filled once there are two."""
    waits = "shards 0/0 not known to have 2 other copies that are verified"
    said = {NodeId(n): report(node=NodeId(n), anew_waits_for=waits) for n in (1, 3)}
    known = known_copies(WELL, said, {})
    for verified, way_out in ((1, "stop n1, move its data directory away"), (0, "shards recover")):
        copies = replace(known, verified={ShardId(0): verified})
        (finding, _) = [
            f
            for f in findings(Known(PlacementView(WELL), copies=copies))
            if f.code == "journal-damaged"
        ]
        assert way_out in finding.fix
        assert ("octad node remove n1" in finding.fix) is (verified == 1)


def test_a_node_that_is_filled_in_the_place_of_another_is_nothing_to_do() -> None:
    seen = view(
        live=[*NODES[:2], node(4)],
        known=[3],
        configurations=[configuration(1, 2, depth=0)],
        depth=0,
    )
    known = known_copies(seen, {NodeId(4): report(node=NodeId(4), in_place_of=NodeId(3))}, {})
    found = diagnose(seen, copies_known=known)
    assert "the journal of n3 was damaged: n4 is in its place" in found["filled-anew"].what
    assert found["filled-anew"].fix.startswith("nothing")
    assert "node-away" not in found, "it is not to be started again"


def test_of_a_full_disk_it_is_said_when_space_will_be_back() -> None:
    said = report(read_only=True, returning_bytes=3_435_973_836, returning_s=40.0)
    known = known_copies(WELL, {NodeId(1): said}, {})
    (finding,) = [f for f in findings(Known(PlacementView(WELL), copies=known)) if "n1" in f.what]
    assert finding.what == (
        "the disk of n1 is full: writes to its shards are refused; reads and deletes go on;"
        " 3.2 GiB of deleted objects come back within about 40 s"
    )
    assert finding.fix.startswith("wait for that; if it is not enough: give the disk more room")


def test_damaged_records_full_disks_and_mixed_versions_are_said() -> None:
    seen = view(
        live=[*NODES[:2], node(3, version="0.2.0")],
        configurations=[configuration(1, 2, 3, depth=0)],
        depth=0,
    )
    usage = {
        NodeId(1): UsageRecord(NodeId(1), 1000, 80, {}),
        NodeId(2): UsageRecord(NodeId(2), 1000, 20, {}),
        NodeId(3): UsageRecord(NodeId(3), 1000, 500, {}),
    }
    known = Known(
        PlacementView(seen, usage=usage),
        copies=verified(seen, 3, damaged={NodeId(2): DiskDamage(left=4)}),
    )
    found = [(f.code, f.urgency) for f in findings(known)]
    assert found == [
        ("damaged-records", "at-risk"),
        ("disk-full", "at-risk"),
        ("disk-full", "to-do"),
        ("versions", "to-do"),
    ]
    assert "0.1.0 on n1 n2, 0.2.0 on n3" in findings(known)[3].what


def test_only_what_is_lost_is_to_be_written_again() -> None:
    passed = diagnose(WELL, copies_known=verified(WELL, damaged={NodeId(1): DiskDamage(passed=1)}))
    assert passed.keys() == {"disk-errors"}
    assert exit_code(DoctorDocument(tuple(passed.values()), 0.1)) == 0
    repaired = verified(WELL, damaged={NodeId(1): DiskDamage(repaired=2)})
    assert diagnose(WELL, copies_known=repaired).keys() == {"disk-errors"}
    left = diagnose(WELL, copies_known=verified(WELL, damaged={NodeId(1): DiskDamage(left=1)}))
    assert left["damaged-records"].urgency == "at-risk"
    assert "nothing is known to be lost" in left["damaged-records"].what
    assert "start the nodes that are away" in left["damaged-records"].fix
    lost = diagnose(WELL, copies_known=verified(WELL, damaged={NodeId(1): DiskDamage(lost=1)}))
    assert lost["lost-records"].urgency == "unavailable"
    for code, finding in {**passed, **left, **lost}.items():
        assert ("again" in finding.fix and "write" in finding.fix) == (code == "lost-records")


def test_one_copy_is_said_once_and_is_nothing_to_do() -> None:
    seen = view(
        live=NODES,
        configurations=[configuration(1, depth=1), configuration(2, depth=1)],
        replicas=1,
        depth=1,
    )
    found = diagnose(seen, 1)
    assert found.keys() == {"one-copy"}
    assert "octad-1x keeps 1 copy" in found["one-copy"].what
    assert "lost disk" in found["one-copy"].what
    assert "octad pool create --replicas 3" in found["one-copy"].fix
    document = DoctorDocument(tuple(found.values()), 0.1)
    assert exit_code(document) == 0
    assert doctor_text(document).startswith("nothing is wrong\nnote: octad-1x keeps 1 copy")


def test_a_refused_plan_is_said_with_its_reason() -> None:
    plan = Stored(ShardPlan("repair", 3), Revision(7), b"")
    refused = PlanProgress(7, NodeId(1), "refused", reason="its disk is full")
    old = msgspec.structs.replace(refused, plan=6)
    for progress, said in ((refused, True), (old, False)):
        stored = Stored(progress, Revision(8), b"")
        placement = PlacementView(WELL, plans={SHARD: plan}, progress={SHARD: stored})
        found = diagnose(WELL, placement=placement)
        assert ("plan-refused" in found) == said
    assert "its disk is full" in diagnose(WELL, problems=("its disk is full",))["plan-refused"].what


def test_a_primary_that_says_nothing_is_asked_after() -> None:
    assert "n1" in diagnose(WELL, None)["unverified"].what
    assert "unverified" in diagnose(WELL, 0)


# -- what reports are worth --------------------------------------------------------------------


def report(boot: str = "boot", epoch: int = 1, **fields: object) -> NodeReport:
    led = {"0/0": VerifiedCopies(Epoch(epoch), 3)}
    return msgspec.structs.replace(NodeReport(NodeId(1), boot, led, {}), **fields)


def test_a_report_counts_while_its_process_lives_and_for_the_present_epoch_alone() -> None:
    def copies(said: NodeReport, seen: ClusterView = WELL) -> int | None:
        return known_copies(seen, {said.node: said}, {}).verified[SHARD]

    assert copies(report()) == 3
    assert copies(report(boot="an earlier one")) is None
    assert copies(report(epoch=2)) is None
    assert (
        copies(
            report(),
            view(live=NODES[1:], configurations=[configuration(1, 2, 3, depth=0)], depth=0),
        )
        is None
    )
    assert copies(report(node=NodeId(2))) is None, "it does not lead"
    damaged = known_copies(WELL, {NodeId(1): report(damaged_records=2)}, {}).damaged
    assert damaged == {NodeId(1): DiskDamage(left=2)}
    dead = known_copies(WELL, {NodeId(1): report(boot="x", damaged_records=2)}, {}).damaged
    assert dead == {}


def test_a_shard_is_verified_once_every_copy_was_compared() -> None:
    def known(*said: object) -> KnownCopies:
        led = {"0/0": VerifiedCopies(Epoch(1), *said)}  # type: ignore[arg-type]
        return known_copies(WELL, {NodeId(1): report(led=led)}, {})

    assert known(3, 0, ()).verified == {SHARD: 3}
    first = known(1, 2, ())
    assert first.verified == {SHARD: None}, "neither verified nor degraded"
    found = diagnose(WELL, copies_known=first)
    assert [(code, each.urgency) for code, each in found.items()] == [("comparing", "note")]
    assert known(2, 0, (NodeId(3),)).verified == {SHARD: 2}


def test_a_copy_that_differs_is_said_with_both_sides_and_what_comes_of_it() -> None:
    led = {"0/0": VerifiedCopies(Epoch(1), 2, 0, (NodeId(3),))}
    known = known_copies(WELL, {NodeId(1): report(led=led)}, {})
    assert known.different == {NodeId(3): (SHARD,)}
    finding = diagnose(WELL, copies_known=known)["different-copies"]
    assert finding.urgency == "at-risk"
    assert "1 shard (0/0) of which n3 has other rows than n1" in finding.what
    assert "octad node drain the one with fewer" in finding.fix
    old = known_copies(WELL, {NodeId(1): report(led=led, boot="an earlier one")}, {})
    assert old.different == {}


def test_what_is_left_to_copy_is_known_only_when_every_size_is() -> None:
    recruit = Member(NodeId(3), incarnation(3), Seq(4), Epoch(1))
    short = msgspec.structs.replace(
        configuration(1, 2, depth=0), members=(*configuration(1, 2).members, recruit)
    )
    seen = view(live=NODES, configurations=[short], depth=0)
    copying = {"0/0": CopyReport(NodeId(1), 30, 100)}
    fetches = NodeReport(NodeId(3), "boot", {}, copying)
    known = known_copies(seen, {NodeId(3): fetches}, {})
    assert copying_status(known, 7.04) == CopyingStatus(1, 1, 0, 70, 7.0)
    waits = msgspec.structs.replace(fetches, copying={"0/0": CopyReport(None, 0, None)})
    known = known_copies(seen, {NodeId(3): waits}, {})
    assert copying_status(known, None) == CopyingStatus(1, 1, 1, None, None)
    silent = known_copies(seen, {}, {})
    assert copying_status(silent, None) == CopyingStatus(1, 1, 0, None, None)
    assert known_copies(seen, {}, {SHARD: 100}).bytes_left == 100
    learning = msgspec.structs.replace(
        configuration(1, 2, 3, depth=0), learners=(Learner(NodeId(4), incarnation(4)),)
    )
    moves = view(live=[*NODES, node(4)], configurations=[learning], depth=0)
    known = known_copies(moves, {}, {SHARD: 100})
    assert (known.missing, known.bytes_left, len(known.copying)) == (0, 100, 1)
