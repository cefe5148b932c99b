"""Decides, does no I/O: signatures, chunked bodies, checksums, XML, tokens."""
