"""The independent witness: plays a bundle step by step. Knows nothing of the theory."""
