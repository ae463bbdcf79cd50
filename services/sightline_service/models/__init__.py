"""The models that give the scores, behind three protocols. Knows no HTTP and no caches."""
