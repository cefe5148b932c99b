"""What a shard's entries say, one file for a few kinds of record; `registry.py` knows them all."""
