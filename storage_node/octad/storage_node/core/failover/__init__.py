"""The replication core: leases, takeover, removal, recruits, learners."""
