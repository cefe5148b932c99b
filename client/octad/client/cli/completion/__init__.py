"""Completion of the `octad` command in shells, from scripts that start no Python at a Tab."""
