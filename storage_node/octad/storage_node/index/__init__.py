"""The node's index: rows by key, made from the journal's entries."""
