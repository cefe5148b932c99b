"""Clients of a cluster under test, and the record of their requests."""
