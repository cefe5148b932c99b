"""One shard's replica as a state machine: log, leases, reconfiguration, splits. No I/O."""
