"""How octad is reached: the S3 protocol's building blocks, the command line, the SDK."""
