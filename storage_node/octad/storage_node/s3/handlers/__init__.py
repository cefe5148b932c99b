"""One function for each S3 operation: from a request, through the object store, to an answer."""
