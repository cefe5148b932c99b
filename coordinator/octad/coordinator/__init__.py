"""Who is there and who holds what: the configuration store and the coordinator on top of it."""
