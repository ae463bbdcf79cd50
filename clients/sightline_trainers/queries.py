"""Questions about objects, for SVP's visual queries. Knows words; knows no model."""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import inflect

from sightline_core.entities import Vocabulary
from sightline_core.grounding import phrases_in


def object_questions(
    of_image: Sequence[str],
    of_others: Sequence[str],
    *,
    count: int,
    seed: int,
    vocabulary: Vocabulary,
) -> tuple[str, ...]:
    """Up to `count` questions "Is there a dog in the image?", once per object.

    Half of the objects are named in the image's own descriptions, half in those of other images
    alone, so that neither answer is the rule; where one half falls short the other fills it up.
    """
    draw = Random(seed)  # nosec B311 # repeatable on purpose
    own = _shuffled(phrases_in("\n".join(of_image), vocabulary), draw)
    known = set(own)
    rest = phrases_in("\n".join(of_others), vocabulary)
    others = _shuffled([each for each in rest if each not in known], draw)
    n_others = min(len(others), max(count // 2, count - len(own)))
    chosen = own[: count - n_others] + others[:n_others]
    return tuple(f"Is there {_with_article(each)} in the image?" for each in chosen)


def _shuffled(phrases: Sequence[str], draw: Random) -> list[str]:
    return draw.sample(list(phrases), len(phrases))


@lru_cache(maxsize=4096)
def _with_article(phrase: str) -> str:
    return str(inflect.engine().a(phrase))
