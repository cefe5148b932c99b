"""How the cluster is: copies, nodes, and whether one may go down now."""
