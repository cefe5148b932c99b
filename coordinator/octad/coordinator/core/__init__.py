"""Decides, does no I/O: what the cluster's records mean and what they should become."""
