"""What holds the data: journal, index, replication between nodes and the S3 front door."""
