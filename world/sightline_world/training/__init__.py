"""How the shipped models are made from nothing; imported only by ``sightline world train``."""
