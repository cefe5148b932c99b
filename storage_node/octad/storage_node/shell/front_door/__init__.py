"""The S3 listener of a node: HTTP in, calls to the object store, HTTP out."""
