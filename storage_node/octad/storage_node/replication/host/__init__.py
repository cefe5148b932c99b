"""All replicas of a node: their messages, their log in the journal, their entries in the index."""
