"""What S3 means, in values and bytes: conditions, ranges, listings, answers. No I/O."""
