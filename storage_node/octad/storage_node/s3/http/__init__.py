"""The S3 listener of a node: HTTP in, HTTP out."""
