"""Re-runs each paper's headline comparison on the embedded world. Knows the four methods."""
