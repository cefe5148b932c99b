"""The verbs of `octad` about the cluster, and the coordinator's process."""
