"""The verbs of `octad` that run or inspect one node."""
