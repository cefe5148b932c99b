"""Forms that browsers send: their parts, who signed them, and what the signer allowed."""
