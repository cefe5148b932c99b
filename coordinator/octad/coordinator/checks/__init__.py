"""Checks of services by the coordinator's leader: whether who is registered also answers."""
