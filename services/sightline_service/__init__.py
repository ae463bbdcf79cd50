"""The reward service: four scoring endpoints over HTTP. Knows models; knows no client."""
