"""S3's XML: the documents that are answered, and the bodies that clients send."""
