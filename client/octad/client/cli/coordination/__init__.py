"""Verbs for services that agree on something: who does it, and with which settings."""
