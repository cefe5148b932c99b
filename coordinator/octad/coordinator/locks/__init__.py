"""Locks for anyone: queues of sessions in the configuration store, whose first holds."""
