"""The `octad` command, and its verbs that need nothing but a coordinator."""
