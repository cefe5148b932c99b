"""Clients of octad: the S3 protocol's building blocks, the command line, the SDK."""
