"""What breaks octad on purpose: real processes, faults, histories and the checks on them."""
