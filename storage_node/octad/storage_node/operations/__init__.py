"""What a shard's log says, and what each of its records does to the index. No I/O."""
