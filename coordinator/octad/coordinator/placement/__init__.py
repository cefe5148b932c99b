"""Where shards are to be, and the steps that bring them there."""
