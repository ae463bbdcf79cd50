"""Sightline measured beside its limits and its peers. Knows HTTP and processes, no formulas."""
