"""The log's door: HTTP for those who have access keys."""
