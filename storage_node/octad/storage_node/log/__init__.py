"""The retained log: topics, whose partitions are appended to and read by offset."""
