"""Registering services and watching who is there: what `octad.client.membership` offers."""
