"""Membership and placement: the configuration store and the coordinator on top of it."""
