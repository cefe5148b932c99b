"""Fault injection for octad: real processes, faults, histories and the checks on them."""
