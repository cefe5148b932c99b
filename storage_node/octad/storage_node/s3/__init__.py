"""The S3 front door: protocol, handlers and HTTP."""
