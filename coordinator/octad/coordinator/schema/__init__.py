"""What the store holds and what is said over HTTP: keys, records, messages. No I/O."""
