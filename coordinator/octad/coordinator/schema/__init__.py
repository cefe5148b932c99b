"""The store's keys and records, and the messages over HTTP. No I/O."""
