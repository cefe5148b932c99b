"""The coordinator's client: tokens, signed calls, documents."""
