"""The coordinator over HTTP: routes, reads, writes and watches."""
