"""Plurals of English noun phrases. Knows inflect; knows no vocabulary."""

from functools import cache

import inflect


def plural(phrase: str) -> str:
    """The plural of a lower-case noun phrase: "glass of water" gives "glasses of water"."""
    return str(_engine().plural_noun(phrase))


@cache
def _engine() -> inflect.engine:
    return inflect.engine()
