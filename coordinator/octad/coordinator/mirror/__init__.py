"""What a coordinator keeps of the configuration store in memory, and who leads."""
