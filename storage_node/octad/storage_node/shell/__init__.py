"""Does I/O: front door, node-to-node RPC, journal files, index, background loops."""
