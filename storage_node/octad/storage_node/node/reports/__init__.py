"""What a node tells of itself: to the coordinator, to metrics, to those who look after it."""
