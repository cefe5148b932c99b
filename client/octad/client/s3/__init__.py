"""Shared by S3 clients and servers: signatures, checksums, errors, dates. No I/O."""
