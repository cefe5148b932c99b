"""What a node answers about its shards, and how a request finds the node that can."""
