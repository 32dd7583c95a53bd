"""One file per result; each cites its equation. Knows nothing of the simulator."""
