"""Faults, and when they strike."""
