"""Laws of prompt and decode lengths, and the token load they put on a slot."""
