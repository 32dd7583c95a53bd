"""One module per serving system, by its name on the command line; see `afdplan.deploy.target`."""
