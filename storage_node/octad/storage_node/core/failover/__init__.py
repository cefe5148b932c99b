"""The replication core with failover: leases, takeover, removal, recruits, learners.

Checked in `tests/simulation`; the shell still runs `core/shard_replica.py` and is switched over
when it can copy history.
"""
