"""Measurements, logs, sweeps, model and hardware: where a latency model comes from."""
