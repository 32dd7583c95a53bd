"""What to deploy, under which limits, and whether to split at all."""
