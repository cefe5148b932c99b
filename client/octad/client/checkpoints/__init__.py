"""A job's state: saved in one step, fenced, incremental, and restored."""
