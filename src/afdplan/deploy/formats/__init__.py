"""Ways to start a deployment; each takes the same roles."""
