"""Background work of a node: compaction, scrubbing, repair, dead extents."""
