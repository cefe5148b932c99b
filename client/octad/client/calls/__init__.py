"""How a client's requests reach the nodes of a cluster and come back decided."""
