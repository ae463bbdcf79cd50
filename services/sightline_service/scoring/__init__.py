"""The four scores: from request message to reply. Knows models and formulas; knows no HTTP."""
