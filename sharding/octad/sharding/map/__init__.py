"""The shard map: which nodes hold which shard, and which shard a name is in."""
