"""Messages and calls between nodes: authenticated, framed, bounded."""
