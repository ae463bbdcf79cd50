"""BLEU, METEOR, ROUGE-L and CIDEr of a set of captions. Knows captions; knows no images.

Own versions without Java, held against pycocoevalcap 1.2 on captions of COCO images by five models:
BLEU, ROUGE-L and CIDEr agree to 1e-9 on the same words, and 13,996 of 14,000 captions have the same
words as with Stanford's tokeniser. METEOR departs (see `meteor`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sightline_eval.bleu import bleu, count_bleu
from sightline_eval.bootstrap import Estimate, estimate
from sightline_eval.captions import Caption
from sightline_eval.cider import cider
from sightline_eval.meteor import count_meteor, meteor
from sightline_eval.ngrams import ORDERS, Words
from sightline_eval.penn_words import penn_words
from sightline_eval.rouge import rouge_l


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """The metrics over a set of captions, with bootstrap intervals over captions.

    Attributes:
        bleu: BLEU-1 to BLEU-4, in [0, 1].
        meteor: in [0, 1]; comparable with other scores of this package only.
        rouge_l: in [0, 1].
        cider: in [0, 10], where most papers print 100 times as much. Its interval holds the
            weights of the words, which come from all references, fixed.
        words: mean length of a caption, as the metrics count words.
    """

    bleu: tuple[Estimate, Estimate, Estimate, Estimate]
    meteor: Estimate
    rouge_l: Estimate
    cider: Estimate
    words: Estimate
    n_captions: int


def score_captions(
    captions: Iterable[Caption],
    references: Mapping[int, Sequence[str]],
    *,
    resamples: int = 500,
) -> CaptionScores:
    """Scores one caption per image against the image's references.

    CIDEr weighs words by the references of the images that have a caption, so compare models on
    the same images only. An empty caption scores 0.

    Raises:
        ValueError: there are no captions, an image has two, or one has no references.
    """
    candidates, groups = _pair(captions, references)
    pairs = list(zip(candidates, groups, strict=True))
    bleu_counts = [count_bleu(*pair) for pair in pairs]
    meteor_counts = [count_meteor(*pair) for pair in pairs]
    one, two, three, four = (
        estimate(bleu_counts, partial(bleu, order=order), resamples=resamples) for order in ORDERS
    )
    return CaptionScores(
        bleu=(one, two, three, four),
        meteor=estimate(meteor_counts, meteor, resamples=resamples),
        rouge_l=_mean([rouge_l(*pair) for pair in pairs], resamples),
        cider=_mean(cider(candidates, groups), resamples),
        words=_mean([float(len(candidate)) for candidate in candidates], resamples),
        n_captions=len(pairs),
    )


def _pair(
    captions: Iterable[Caption], references: Mapping[int, Sequence[str]]
) -> tuple[list[Words], list[list[Words]]]:
    texts: dict[int, str] = {}
    for caption in captions:
        if caption.image in texts:
            raise ValueError(f"image {caption.image} has two captions: keep one")
        if not references.get(caption.image):
            raise ValueError(f"image {caption.image} has a caption but no references: add some")
        texts[caption.image] = caption.text
    if not texts:
        raise ValueError("captions is empty: caption metrics need at least one")
    groups = [[penn_words(text) for text in references[image]] for image in texts]
    return [penn_words(text) for text in texts.values()], groups


def _mean(scores: Sequence[float], resamples: int) -> Estimate:
    return estimate(scores, lambda sample: float(np.mean(sample)), resamples=resamples)
