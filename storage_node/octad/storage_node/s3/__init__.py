"""What S3 means, in bytes and strings: routes, errors, conditions. No I/O."""
