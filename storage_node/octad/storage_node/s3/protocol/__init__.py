"""The S3 protocol as values and bytes: conditions, ranges, listings, answers. No I/O."""
