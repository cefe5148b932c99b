"""Verbs for buckets' objects: `octad ls`, `cp`, `sync`, …"""
