"""From a request to its answer: who sends it, may he have it, and which handler answers it."""
