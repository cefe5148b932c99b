"""From a request to its answer: authentication, authorization, and the choice of a handler."""
