"""Which octad this is: of both distributions, which are released together."""

VERSION = "0.1.0"  # To look it up in the distribution takes longer than all of `octad --help`.
