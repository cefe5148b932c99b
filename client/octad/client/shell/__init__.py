"""Does I/O: the command line and what it talks to."""
