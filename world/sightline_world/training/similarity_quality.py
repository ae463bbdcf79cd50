"""The similarity model's figures on unseen scenes. Knows nouns and captions; trains nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from open_clip.model import CLIP
from torch import Tensor
from transformers import CLIPTokenizer

from sightline_world.captions import swap
from sightline_world.categories import CATEGORIES, INDEX, NAMES, prior, scene_type
from sightline_world.scenes import absent
from sightline_world.splits import stream
from sightline_world.training.metrics import auroc, paired
from sightline_world.training.pool import Pool
from sightline_world.training.similarity import encode_image, encode_text, pixel_values, token_ids


@dataclass(frozen=True, slots=True)
class Quality:
    """AUROC of true against false texts.

    Hard: the false object is one that the scene makes likely.
    """

    scenes: int
    noun_hard: float
    noun_all: float
    plural_hard: float
    prior_hard: float
    prior_all: float
    caption_pooled: float
    caption_paired: float
    present_mean: float
    hard_mean: float


@torch.no_grad()
def quality(model: CLIP, tokenizer: CLIPTokenizer, pool: Pool, count: int) -> Quality:
    """The figures on the first ``count`` scenes of a pool, in float32."""
    model.eval()
    blocks = [pool.pixels[i : i + 100] for i in range(0, count, 100)]
    images = torch.cat([encode_image(model, pixel_values(block))[0] for block in blocks])
    nouns, plurals = (
        (images @ encode_text(model, token_ids(tokenizer, texts)).T).numpy()
        for texts in (NAMES, [c.plural for c in CATEGORIES])
    )
    layouts = pool.layouts[:count]
    prior_scores = np.stack([prior(scene_type(layout.kind)) for layout in layouts])
    swaps = [swap(one, stream(pool.split, i, purpose="caption")) for i, one in enumerate(layouts)]
    right = _scores(model, tokenizer, images, [pair.faithful for pair in swaps])
    wrong = _scores(model, tokenizer, images, [pair.hallucinated for pair in swaps])
    model.train()
    present, missing, hard = _cells(pool, count)
    return Quality(
        scenes=count,
        noun_hard=auroc(nouns[present], nouns[hard]),
        noun_all=auroc(nouns[present], nouns[missing]),
        plural_hard=auroc(plurals[present], plurals[hard]),
        prior_hard=auroc(prior_scores[present], prior_scores[hard]),
        prior_all=auroc(prior_scores[present], prior_scores[missing]),
        caption_pooled=auroc(right, wrong),
        caption_paired=paired(right, wrong),
        present_mean=float(nouns[present].mean()),
        hard_mean=float(nouns[hard].mean()),
    )


Cells = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _cells(pool: Pool, count: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], Cells]:
    """Where nouns are present, where absent, and one scene-likely absent noun per scene."""
    present = np.zeros((count, len(NAMES)), dtype=bool)
    hard: list[int] = []
    for row, layout in enumerate(pool.layouts[:count]):
        present[row, [INDEX[name] for name in layout.names]] = True
        hard.append(INDEX[absent(layout, stream(pool.split, row, purpose="absent"))])
    return present, ~present, (np.arange(count), np.array(hard))


def _scores(
    model: CLIP, tokenizer: CLIPTokenizer, images: Tensor, texts: list[str]
) -> npt.NDArray[np.float32]:
    starts = range(0, len(texts), 200)
    encoded = [encode_text(model, token_ids(tokenizer, texts[i : i + 200])) for i in starts]
    return (images * torch.cat(encoded)).sum(-1).numpy()
