"""Settings of buckets: how their owners change and read them."""
