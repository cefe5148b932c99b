"""What replicas of a shard are made of and say to one another: log, leases, messages. No I/O."""
