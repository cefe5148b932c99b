"""Services by DNS, for programs that know nothing else."""
