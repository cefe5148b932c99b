"""Which nodes should hold which shard, with as few moves as possible."""
