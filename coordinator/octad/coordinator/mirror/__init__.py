"""The coordinator's copy of the configuration store in memory, and leader election."""
