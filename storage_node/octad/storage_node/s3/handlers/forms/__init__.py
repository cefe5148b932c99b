"""Uploads that a browser sends as an HTML form."""
