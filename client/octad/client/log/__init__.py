"""The retained log, as clients see it."""
