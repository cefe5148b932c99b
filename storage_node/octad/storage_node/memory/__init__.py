"""Memory for bytes that clients and peers send: bounded, shared, and given back."""
