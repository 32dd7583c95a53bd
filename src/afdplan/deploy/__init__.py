"""The files that start a plan on a serving system."""
