"""What clients do to a cluster under test, and the record of it."""
