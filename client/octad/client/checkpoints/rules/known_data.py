"""Which data a job may name in its next manifest without storing it again.

That something of the right content is there says nothing: a collector may be about to take it.
What counts is that a manifest names it which is kept in a head: in the job's own, as it was read
last (no one else commits while this epoch stands), or in another job's while this begin's record
names it. What this begin stored itself counts, too: no collector takes that from it.
"""

from __future__ import annotations

from collections.abc import Iterable

from octad.client.checkpoints.rules.documents import File, Manifest, Part
from octad.client.checkpoints.rules.names import owner_of, sha256_of


class KnownData:
    """`owner`: of this begin, as names end with it."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._names: dict[str, str] = {}  # By SHA-256.
        self._support: dict[
            str, str
        ] = {}  # By name: the newest checkpoint that is known to have it.
        self._files: dict[str, File] = {}

    def learn(self, manifest: Manifest) -> None:
        """It is kept, and the newest one so far."""
        for file in manifest.files:
            self._files[file.path] = file
            for part in file.parts:
                self._names[sha256_of(part.data)] = part.data
                self._support[part.data] = manifest.id

    def stored(self, name: str) -> None:
        """This begin has stored it."""
        self._names[sha256_of(name)] = name

    def forget_all_but(self, kept: set[str]) -> None:
        """No other checkpoint counts any more."""
        gone = [name for name, support in self._support.items() if support not in kept]
        for name in gone:
            del self._support[name]
            if owner_of(name) != self._owner and self._names.get(sha256_of(name)) == name:
                del self._names[sha256_of(name)]

    def checkpoints(self) -> set[str]:
        """Those that count."""
        return set(self._support.values())

    def name(self, sha256: str) -> str:
        """Of data with that content; "" where none may be named."""
        return self._names.get(sha256, "")

    def part(self, path: str, number: int) -> Part | None:
        """What was at that place of the file, where it may be named."""
        file = self._files.get(path)
        if file is None or number >= len(file.parts):
            return None
        part = file.parts[number]
        return part if self.may_name(part.data) else None

    def may_name(self, name: str) -> bool:
        return owner_of(name) == self._owner or name in self._support

    def lost(self, files: Iterable[File]) -> set[str]:
        """The names of these files' data that no longer may be named."""
        return {p.data for file in files for p in file.parts if not self.may_name(p.data)}
