"""How the shipped models are made from nothing. Knows torch; nothing that serves knows it."""
