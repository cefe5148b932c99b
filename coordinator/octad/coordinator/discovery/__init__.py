"""The services that are there, in the forms in which programs of others look for them."""
