"""The study's models: schemes compared, growth, failures, durability."""
