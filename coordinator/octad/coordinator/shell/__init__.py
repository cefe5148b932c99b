"""Does I/O: the coordinator's HTTP service and its commands."""
