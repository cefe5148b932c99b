"""The cluster under test: its processes and its network."""
