"""`octad top`: what a cluster does right now."""
