"""The object store that the S3 layer talks to: buckets, objects, extents and listings on shards."""
