"""What a coordinator is asked and answers: tokens, signed calls, documents."""
