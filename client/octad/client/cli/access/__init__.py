"""Which cluster a verb asks, with whose keys, and what is said when that refuses."""
