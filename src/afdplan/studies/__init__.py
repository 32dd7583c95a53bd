"""Studies: one declared file, thousands of cases, any engine, results that survive."""
