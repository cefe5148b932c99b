"""A node's reports: to the coordinator, as metrics, and to its operators."""
