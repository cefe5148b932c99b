"""The cluster's status: copies, nodes, and whether a node may go down now."""
