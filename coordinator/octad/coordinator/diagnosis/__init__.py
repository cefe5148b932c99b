"""What is wrong with the cluster, and what to do about it."""
