"""Settings that services share: a small KV with compare-and-set and watch, and no database."""
