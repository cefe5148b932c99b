"""What is set on a bucket or an object that stands, and shown."""
