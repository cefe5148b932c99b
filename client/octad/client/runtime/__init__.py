"""Shared by all of octad's processes: clock, tasks, listeners, files."""
