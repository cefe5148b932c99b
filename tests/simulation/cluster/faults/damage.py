"""Bytes that change on disks: in the records of objects, in the journal, in indexes.

Only what the cluster can make good: a record that every other full member has sound, a journal or
an index of a node without which every shard has a full member, and no two nodes at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from octad.sharding.hashing import shard_number
from octad.sharding.ids import NodeId, number_of
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import (
    OBJECTS,
    decode_located,
    decode_object,
    hash_of_row,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import Location, end_of
from octad.storage_node.journal.segment_file import segment_path, segments_in

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.machine import SimulatedMachine
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World


@dataclass(frozen=True, slots=True)
class Flip:
    """A record that is damaged, for as long as its row names it."""

    machine: SimulatedMachine
    key: bytes
    location: Location


class Damage:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.flips: list[Flip] = []
        # Whose journals are damaged, which no one may find out before they need them.
        self.journals: set[tuple[NodeId, str]] = set()
        self.repaired = 0

    # -- records ---------------------------------------------------------------------------------

    def left(self) -> list[Flip]:
        """The records that are still damaged where rows name them."""
        still = [flip for flip in self.flips if self._stands(flip)]
        self.repaired += len(self.flips) - len(still)
        self.flips = still
        return [flip for flip in still if self._is_member(flip)]

    def _is_member(self, flip: Flip) -> bool:
        """Else no one reads it there, and no one would mend it: others' records are asked for by
        members alone. Who copies from it is refused such a record; once it is a member, it counts.
        """
        return any(
            configuration.member(flip.machine.node_id) is not None
            for shard, configuration in self.world.invariants.configurations.items()
            if shard_number(hash_of_row(flip.key), configuration.depth) == number_of(shard)
        )

    def flip_record(self, random: Random) -> None:
        """Of an object that all other full members have sound, below what a restart replays."""
        process = self.world.any_serving(random)
        if process is None or process.machine.index_files.is_marked():
            return
        assert process.parts is not None
        rows = self._flushed_rows(process)
        if not rows:
            return
        key, location = random.choice(rows)
        if not self._others_have(process, key):
            return
        self.world.tell(f"the record of {key!r} is damaged at {process}")
        self.flips.append(Flip(process.machine, key, location))
        self._flip(process.machine, location)

    def _flushed_rows(self, process: NodeProcess) -> list[tuple[bytes, Location]]:
        """Of objects, whose records a restart does not read."""
        assert process.parts is not None
        index = process.parts.engine.index
        try:
            rows = index.scan(OBJECTS, past(OBJECTS))
            located = [
                (key, decode_located(value).location)
                for key, value in rows
                if not decode_object(value).row.extents  # Else a read has no need of the record.
            ]
            return [row for row in located if end_of(row[1]) <= index.flushed_position]
        except IndexDamage:
            return []

    def _others_have(self, process: NodeProcess, key: bytes) -> bool:
        """The same version, whole, at every other full member of its shard."""
        configurations = self.world.invariants.configurations
        assert process.parts is not None
        here = process.parts.engine.index.get(key)
        for shard, configuration in configurations.items():
            if shard_number(hash_of_row(key), configuration.depth) != number_of(shard):
                continue
            full = [member for member in configuration.members if not member.base]
            nodes = {member.node for member in full}
            if len(full) < self.world.replicas or process.machine.node_id not in nodes:
                return False
            others = [p for p in self.world.processes() if p.machine.node_id in nodes]
            return len(others) == len(full) and all(
                each is process or self._has(each, key, here) for each in others
            )
        return False

    def _has(self, process: NodeProcess, key: bytes, wanted: bytes | None) -> bool:
        if process.parts is None or not process.is_serving or wanted is None:
            return False
        index, journal = process.parts.engine.index, process.parts.engine.journal
        try:
            here = index.get(key)
            if here is None or decode_object(here).seq != decode_object(wanted).seq:
                return False
            journal.read(decode_located(here).location)
        except (IndexDamage, CorruptRecord, OSError):  # No more files can be opened, perhaps.
            return False
        return True

    def _stands(self, flip: Flip) -> bool:
        process = flip.machine.process
        if process is None or process.parts is None:
            return True
        try:
            value = process.parts.engine.index.get(flip.key)
        except IndexDamage:
            return True
        return value is not None and decode_located(value).location == flip.location

    def _flip(self, machine: SimulatedMachine, location: Location) -> None:
        path = segment_path(machine.config.data / "journal", location.segment)
        at = location.offset + self.world.timeline.random.randrange(location.length)
        machine.disk.flip(path, at)

    # -- journals and indexes --------------------------------------------------------------------

    def damage_journal(self, random: Random) -> None:
        """Some bytes that were synced; the next restart may find them."""
        running = [process.machine for process in self.world.processes()]
        machine = random.choice(running) if running else None
        if machine is None or self.left() or not self.world.others_are_whole(machine):
            return
        journal = machine.config.data / "journal"
        segments = segments_in(machine.disk, journal)
        if not segments:
            return
        path = segment_path(journal, random.choice(segments))
        size = machine.disk.written_bytes(path)
        self.world.tell(f"{path.name} is damaged at {machine.host}")
        machine.disk.flip(path, random.randrange(size))
        self.journals.add((machine.node_id, machine.incarnation))
        self.world.kill(machine, power=False)
        self.world.boot_later(machine, random.random())

    def damage_index(self, random: Random) -> None:
        """A bit, the end of a file, or a whole file."""
        process = self.world.any_serving(random)
        if process is None or self.left():
            return
        if any(machine.index_files.is_marked() for machine in self.world.machines):
            return
        machine = process.machine
        files = machine.databases.files.get(machine.index_files.current)
        if files is None or not files.tables:
            return
        table, share = random.randrange(len(files.tables)), random.random()
        kind = random.choice(["flip", "flip", "flip", "cut"])
        self.world.tell(f"the index of {process} is damaged: {kind}")
        getattr(files, kind)(table, share)
