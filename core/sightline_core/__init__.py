"""The papers' formulas and text spans, pure. Knows numpy; knows no HTTP, torch or model."""
