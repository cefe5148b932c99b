"""The study of sharding: octad's map beside its rivals. It may use numpy, read files and draw."""
