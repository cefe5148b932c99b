"""What an S3 request says: its target, headers, parameters, and the operation they amount to."""
