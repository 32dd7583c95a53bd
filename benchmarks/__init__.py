"""Measurements of speed, each runnable with ``python -m benchmarks.<name>``."""
