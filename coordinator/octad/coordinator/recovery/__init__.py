"""Clusters and shards that begin, or that lost what others relied on."""
