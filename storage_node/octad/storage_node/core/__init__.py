"""Decides, does no I/O: replication, record and index formats, listing."""
