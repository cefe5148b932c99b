"""Whether what clients saw is right: linearizability, stalls, the verdict."""
