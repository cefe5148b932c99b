"""A chaos run from its command to its verdict."""
