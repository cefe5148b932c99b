"""What a bucket's owner sets of it, and how it is shown."""
