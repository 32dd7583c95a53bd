"""From a trace to the statistics that a bundle feels."""
