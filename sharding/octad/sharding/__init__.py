"""Where data lives: ids, hashing, the shard map and its assignment. Pure functions, no I/O."""
