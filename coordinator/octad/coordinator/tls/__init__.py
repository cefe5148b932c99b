"""TLS of a listener: its certificate, read again when asked to, and the transport."""
