"""Who signed an S3 request: versions 4 and 2, verified."""
