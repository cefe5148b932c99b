"""The node's one append-only log, and the data directory that it lies in."""
