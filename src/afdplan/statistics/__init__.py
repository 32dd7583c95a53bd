"""Output analysis that knows nothing of attention or FFN."""
