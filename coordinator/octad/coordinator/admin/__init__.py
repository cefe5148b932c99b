"""What admins change with a signed request: access keys of owners, and quotas of buckets."""
