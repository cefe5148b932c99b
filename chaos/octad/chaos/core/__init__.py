"""Decides: what to break when, what clients do, and whether what they saw is allowed. No I/O."""
