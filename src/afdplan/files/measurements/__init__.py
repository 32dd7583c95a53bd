"""How is each kind of measurement read? One file per source."""
