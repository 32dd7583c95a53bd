"""The vocabulary: frozen values, checked once, without input or output."""
