"""Parsing of S3 requests: target, headers, parameters, and the operation."""
