"""What every process of octad needs: clock, tasks, listeners, files."""
