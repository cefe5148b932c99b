"""What clients and servers of S3 share: signatures, checksums, errors, dates. No I/O."""
