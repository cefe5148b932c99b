"""`octad checkpoint`."""
