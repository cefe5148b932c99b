"""What keeps a caller well while a dependency is not: decisions without I/O."""
