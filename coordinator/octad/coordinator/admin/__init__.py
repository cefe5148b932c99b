"""The admin API: access keys of owners, and quotas of buckets."""
