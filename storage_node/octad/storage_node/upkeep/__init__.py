"""What a node does beside its requests: compaction, scrubbing, repair, dead extents."""
