"""The embedded store's file: every version of every key since the last compaction, in SQLite.

    versions: one row for what one revision made of one key; value NULL: it was deleted
    leases:   those not yet ended; their deadlines are not stored (a restart grants a full TTL)
    meta:     compacted = the revision before which only the newest version of a key is kept

A commit is on disk when it returns (write-ahead log, synchronous=FULL). The file is locked for as
long as it is open. All calls come from one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from octad.coordinator.store.interface import Event, KeyValue, LeaseId, Revision
from octad.coordinator.store.keyspace import FIRST_REVISION, Change, Keyspace

APPLICATION_ID = 0x6F63_7464  # "octd": what the file is.
FORMAT_VERSION = 1
LOCK_WAIT_S = 0.3

SCHEMA = """
CREATE TABLE versions (
    mod_revision INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, value BLOB,
    create_revision INTEGER NOT NULL, lease INTEGER NOT NULL,
    PRIMARY KEY (mod_revision, position)) WITHOUT ROWID;
CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_s REAL NOT NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""

VersionRow = tuple[Revision, int, str, bytes | None, Revision, LeaseId]


class StoreFileUnusable(Exception):
    """The file is locked, damaged, newer than this octad, or not a store's: says which."""


class StoreFileInUse(StoreFileUnusable):
    """Another process has it open."""


class StoreFileDamaged(StoreFileUnusable):
    """The file was not written by a store."""


@dataclass(slots=True)
class LogEntry:
    """The writes of one commit."""

    changes: Sequence[Change] = ()
    leases_granted: dict[LeaseId, float] = field(default_factory=dict)
    leases_ended: set[LeaseId] = field(default_factory=set)
    compacted: Revision | None = None
    obsolete: Sequence[tuple[Revision, str]] = ()


class SqliteLog:
    """The open file."""

    def __init__(self, path: Path) -> None:
        """Opens or creates; raises StoreFileUnusable."""
        self._path = path
        try:
            self._db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreFileUnusable(f"{path}: {error}") from error
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise StoreFileInUse(f"{path}: in use by another process") from error
            raise StoreFileUnusable(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StoreFileDamaged(f"{path}: damaged: {error}") from error
        except StoreFileUnusable:
            self._db.close()
            raise

    def load(self) -> tuple[Keyspace, dict[LeaseId, float]]:
        """The keys with their history, and the leases with their TTL."""
        compacted = Revision(self._number("SELECT number FROM meta WHERE name = 'compacted'"))
        base: list[KeyValue] = []
        changes: list[Change] = []
        for revision, rows in groupby(self._versions(), key=lambda row: row[0]):
            events = tuple(_event(row) for row in rows)
            if revision <= compacted:
                base.extend(event.entry for event in events if event.entry is not None)
            else:
                changes.append(Change(revision, events))
        keyspace = Keyspace(compacted, base)
        keyspace.publish(changes)
        leases = self._db.execute("SELECT id, ttl_s FROM leases").fetchall()
        return keyspace, {LeaseId(lease): ttl_s for lease, ttl_s in leases}

    def commit(self, entry: LogEntry) -> None:
        """Atomic: on sqlite3.Error nothing was written."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._write(entry)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN EXCLUSIVE")
        application = self._number("PRAGMA application_id")
        version = self._number("PRAGMA user_version")
        tables = self._number("SELECT count(*) FROM sqlite_schema")
        if (application, version, tables) == (0, 0, 0):
            self._create()
        elif application != APPLICATION_ID:
            raise StoreFileUnusable(f"{self._path}: not a configuration store of octad")
        elif version > FORMAT_VERSION:
            raise StoreFileUnusable(
                f"{self._path}: format {version} is newer than this octad's {FORMAT_VERSION}"
            )
        else:
            self._db.execute("COMMIT")
        complaints = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaints != "ok":
            raise StoreFileDamaged(f"{self._path}: damaged: {complaints}")

    def _create(self) -> None:
        for statement in SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute("INSERT INTO meta VALUES ('compacted', ?)", (FIRST_REVISION,))
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        self._db.execute("COMMIT")

    def _write(self, entry: LogEntry) -> None:
        self._db.executemany(
            "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)",
            [
                _row(event, position)
                for change in entry.changes
                for position, event in enumerate(change.events)
            ],
        )
        self._db.executemany("INSERT INTO leases VALUES (?, ?)", entry.leases_granted.items())
        self._db.executemany(
            "DELETE FROM leases WHERE id = ?", [(lease,) for lease in entry.leases_ended]
        )
        if entry.compacted is not None:
            self._db.executemany(
                "DELETE FROM versions WHERE mod_revision = ? AND key = ?", entry.obsolete
            )
            self._db.execute(
                "UPDATE meta SET number = ? WHERE name = 'compacted'", (entry.compacted,)
            )

    def _number(self, query: str) -> int:
        number = self._db.execute(query).fetchone()[0]
        assert isinstance(number, int)
        return number

    def _versions(self) -> Iterator[VersionRow]:
        rows: Iterator[VersionRow] = self._db.execute(
            "SELECT mod_revision, position, key, value, create_revision, lease"
            " FROM versions ORDER BY mod_revision, position"
        )
        return rows


def _row(event: Event, position: int) -> VersionRow:
    entry = event.entry
    if entry is None:
        return (event.revision, position, event.key, None, Revision(0), LeaseId(0))
    return (
        event.revision,
        position,
        event.key,
        entry.value,
        entry.create_revision,
        entry.lease,
    )


def _event(row: VersionRow) -> Event:
    revision, _, key, value, create_revision, lease = row
    if value is None:
        return Event(key, None, revision)
    return Event(key, KeyValue(key, value, create_revision, revision, lease), revision)
