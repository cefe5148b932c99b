"""Copying a shard's history to a node that lacks it."""
