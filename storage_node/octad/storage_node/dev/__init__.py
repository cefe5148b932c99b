"""`octad dev`: a whole cluster on one machine, supervised."""
