"""Looking inside a decoder: attention patterns, the logit lens, and induction heads, found and switched off."""
