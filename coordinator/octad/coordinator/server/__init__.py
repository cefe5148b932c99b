"""The coordinator itself: its parts, its tasks and its figures."""
