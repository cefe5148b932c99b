"""What the study computes: schemes compared, growth, failures, durability."""
