"""Who belongs to the cluster: nodes that join, services that register."""
