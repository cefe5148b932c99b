"""What decides: formats, names, whose a head is, what a collector may take."""
