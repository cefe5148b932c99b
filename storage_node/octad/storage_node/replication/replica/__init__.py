"""One shard's replica: a state machine of small parts, each of which owns its state. No I/O."""
