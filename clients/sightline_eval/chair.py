"""CHAIR: how often do captions name objects that are not in the image? Knows words; no models.

Anna Rohrbach et al., "Object Hallucination in Image Captioning", EMNLP 2018. "strict" reproduces
the published code's slips, for comparison with published numbers; "clean" mends them. Both make
words singular with inflect, where the published code used another library, so a rare word may
differ. Compare CHAIR only inside one harness, and beside recall and length: saying less
hallucinates less.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sightline_eval.bootstrap import Estimate, estimate
from sightline_eval.captions import Caption
from sightline_eval.lexicon import Lexicon
from sightline_eval.mentions import Mention, count_words, find_mentions


@dataclass(frozen=True, slots=True)
class CaptionObjects:
    """One caption against its image. Mentions count with repetition, objects once."""

    mentions: tuple[Mention, ...]
    hallucinated: tuple[Mention, ...]
    n_recalled: int
    n_truth: int
    n_words: int

    @property
    def n_objects(self) -> int:
        """Distinct objects named."""
        return len({mention.object for mention in self.mentions})


@dataclass(frozen=True, slots=True)
class ChairScores:
    """The metric over a set of captions; shares in [0, 1] with bootstrap intervals over captions.

    Attributes:
        chair_s: captions with a hallucinated mention / captions.
        chair_i: hallucinated mentions / object mentions, over the whole set.
        recall: annotated objects that are named / annotated objects, over the whole set.
        words: mean length of a caption in words.
        objects: mean number of distinct objects that a caption names.
    """

    chair_s: Estimate
    chair_i: Estimate
    recall: Estimate
    words: Estimate
    objects: Estimate
    n_captions: int
    n_mentions: int
    n_hallucinated: int


def check_caption(text: str, truth: frozenset[str], lexicon: Lexicon) -> CaptionObjects:
    """Holds one caption against the objects of its image, both in the lexicon's names."""
    mentions = find_mentions(text, lexicon)
    return CaptionObjects(
        mentions=mentions,
        hallucinated=tuple(mention for mention in mentions if mention.object not in truth),
        n_recalled=len(truth & {mention.object for mention in mentions}),
        n_truth=len(truth),
        n_words=count_words(text),
    )


def chair(
    captions: Iterable[Caption],
    truth: Mapping[int, frozenset[str]],
    lexicon: Lexicon,
    *,
    resamples: int = 500,
) -> ChairScores:
    """Scores captions against the objects of their images.

    An empty caption counts as one without hallucination. Where nothing at all is named, CHAIR_i is
    0 (the published code divides by zero).

    Raises:
        ValueError: there are no captions, or one belongs to an image without annotations.
    """
    checked: list[CaptionObjects] = []
    for caption in captions:
        if caption.image not in truth:
            raise ValueError(f"image {caption.image} has a caption but no annotations: add them")
        checked.append(check_caption(caption.text, truth[caption.image], lexicon))
    if not checked:
        raise ValueError("captions is empty: CHAIR needs at least one")
    return summarise(checked, resamples=resamples)


def summarise(checked: Sequence[CaptionObjects], *, resamples: int = 500) -> ChairScores:
    """Adds up checked captions, of which there is at least one."""
    return ChairScores(
        chair_s=estimate(checked, _chair_s, resamples=resamples),
        chair_i=estimate(checked, _chair_i, resamples=resamples),
        recall=estimate(checked, _recall, resamples=resamples),
        words=estimate(checked, _words, resamples=resamples),
        objects=estimate(checked, _objects, resamples=resamples),
        n_captions=len(checked),
        n_mentions=sum(len(caption.mentions) for caption in checked),
        n_hallucinated=sum(len(caption.hallucinated) for caption in checked),
    )


def _chair_s(checked: Sequence[CaptionObjects]) -> float:
    return sum(bool(caption.hallucinated) for caption in checked) / len(checked)


def _chair_i(checked: Sequence[CaptionObjects]) -> float:
    hallucinated = sum(len(caption.hallucinated) for caption in checked)
    return hallucinated / max(sum(len(caption.mentions) for caption in checked), 1)


def _recall(checked: Sequence[CaptionObjects]) -> float | None:
    annotated = sum(caption.n_truth for caption in checked)
    return sum(caption.n_recalled for caption in checked) / annotated if annotated else None


def _words(checked: Sequence[CaptionObjects]) -> float:
    return sum(caption.n_words for caption in checked) / len(checked)


def _objects(checked: Sequence[CaptionObjects]) -> float:
    return sum(caption.n_objects for caption in checked) / len(checked)
