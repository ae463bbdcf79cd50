"""Measures a saved captioner: CHAIR of its captions, POPE of its answers.

Knows the captioner's public face.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline_world.captioner import Captioner
from sightline_world.captions import question
from sightline_world.scenes import Scene, absent, scenes
from sightline_world.splits import Split, stream
from sightline_world.training.metrics import Chair, chair


@dataclass(frozen=True, slots=True)
class Pope:
    """Yes/no accuracy on as many present as absent objects, and how often the answer is yes.

    In per cent.
    """

    accuracy: float
    yes_rate: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Captions, greedy and sampled at temperature 1; answers about random and likely objects."""

    scenes: int
    greedy: Chair
    sampled: Chair
    pope_random: Pope
    pope_adversarial: Pope


def quality(folder: Path, split: Split, count: int) -> Quality:
    """The figures on the first ``count`` scenes of a split."""
    captioner = Captioner(folder)
    drawn = list(scenes(split, count))
    images, layouts = [one.image for one in drawn], [one.layout for one in drawn]
    return Quality(
        count,
        chair(captioner.caption(images), layouts),
        chair(captioner.caption(images, sampled=True), layouts),
        _pope(captioner, drawn, hard=False),
        _pope(captioner, drawn, hard=True),
    )


def _pope(captioner: Captioner, drawn: list[Scene], *, hard: bool) -> Pope:
    """One present and one absent object per scene, as in POPE (Li et al. 2023)."""
    images, questions, truths = [], [], []
    for one in drawn:
        rng = stream(one.split, one.index, purpose="question")
        there = one.layout.names[int(rng.integers(len(one.layout.names)))]
        for name, truth in ((there, True), (absent(one.layout, rng, hard=hard), False)):
            images.append(one.image)
            questions.append(question(name))
            truths.append(truth)
    said = np.array(captioner.answers(images, questions))
    return Pope(100 * float(np.mean(said == np.array(truths))), 100 * float(said.mean()))
