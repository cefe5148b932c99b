"""Verbs of the log: topics, records in, records out."""
