"""Membership: nodes that join, services that register."""
