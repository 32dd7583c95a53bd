"""Pure figure data, and the thin drawing of it."""
