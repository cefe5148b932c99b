"""Placement of shards, and the steps that move them."""
