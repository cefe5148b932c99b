"""Log lines: their form, their bounds, and the file that takes them."""
