"""`octad trace`: requests of the nodes as they end."""
