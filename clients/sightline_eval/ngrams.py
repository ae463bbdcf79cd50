"""Runs of words and how often they occur. Knows words; knows no metric."""

from collections import Counter

Words = tuple[str, ...]

ORDERS: tuple[int, ...] = (1, 2, 3, 4)  # the lengths of runs that caption metrics compare


def count_ngrams(words: Words) -> Counter[Words]:
    """How often each run of 1 to 4 words occurs."""
    return Counter(words[start : start + n] for n in ORDERS for start in range(len(words) - n + 1))
