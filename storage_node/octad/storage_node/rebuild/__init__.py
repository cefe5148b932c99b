"""A node's data made anew: its index from its journal, or all of it from the other nodes."""
