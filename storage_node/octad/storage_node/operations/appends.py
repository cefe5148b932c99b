"""Appends: what an object becomes when a piece is put behind its bytes.

An append is ordered as a PutObject of the complete row, so every member applies it as any other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from octad.client.s3.checksums import COMBINABLE, appended_etag, full_object_checksum
from octad.storage_node.index.index_format import IndexedObject
from octad.storage_node.index.rows import ExtentRef, ObjectExtras, ObjectRow
from octad.storage_node.operations.conditions import NO_VERSION, Version

APPENDS_MAX: Final = 10_000


class FormsDiffer(Exception):
    """One has its bytes in a record and the other in extents: nothing is done."""


class AppendedPiece(msgspec.Struct, frozen=True, array_like=True):
    """Bytes that are to be the next of an object, or its first."""

    offset: int  # What the object's size has to be; 0 where there is none.
    row: ObjectRow  # The object that they would be by themselves.
    crcs: dict[str, str]  # Their checksums by each algorithm that can be combined.
    moved: tuple[ExtentRef, ...] = ()  # The object's bytes, taken out of its record,
    moved_from: Version = NO_VERSION  # as this version has them.

    def behind(self, standing: IndexedObject) -> ObjectRow:
        """The object with these bytes appended, if its size is `offset`; raises FormsDiffer."""
        row, piece = standing.row, self.row
        extras = row.extras or ObjectExtras()
        appends = extras.appends + 1
        return msgspec.structs.replace(
            row,
            size=row.size + piece.size,
            etag=appended_etag(row.etag, piece.etag, appends + 1),
            modified_ms=piece.modified_ms,
            checksums={
                algorithm: full_object_checksum(
                    algorithm, ((value, row.size), (self.crcs[algorithm], piece.size))
                )
                for algorithm, value in row.checksums.items()
                if algorithm in self.crcs and algorithm in COMBINABLE and "-" not in value
            },
            extents=self._extents(standing),
            part_sizes=(),
            extras=msgspec.structs.replace(extras, part_checksums=(), appends=appends),
        )

    def _extents(self, standing: IndexedObject) -> tuple[ExtentRef, ...]:
        """None if all bytes are to be in the record."""
        before, piece = standing.row, self.row
        if not before.size or not piece.size or bool(before.extents) == bool(piece.extents):
            return before.extents + piece.extents
        if not piece.extents or self.moved_from != (standing.epoch, standing.seq):
            raise FormsDiffer
        return self.moved + piece.extents
