"""The demonstration: scenes, captions, scores, figures. Knows the parts; shows nothing."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from sightline import RewardClient
from sightline_eval.findings import Findings, find
from sightline_eval.lexicon import load_lexicon
from sightline_eval.survey import Survey, survey
from sightline_eval.world_captions import ImageCaptioner, caption_scenes, draw_scenes

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the demonstration."""

    seed: int
    seconds: float
    survey: Survey
    findings: Findings

    @property
    def count(self) -> int:
        """How many scenes were surveyed."""
        return len(self.survey.scenes)

    def to_json(self) -> dict[str, Any]:
        """The figures and what they rest on, without texts and pictures."""
        return {
            "sightline": version("sightline"),
            "split": "test",
            "seed": self.seed,
            "scenes": self.count,
            "seconds": round(self.seconds, 1),
            "similarity": self.survey.similarity.model_dump(),
            "detector": self.survey.detector.model_dump(),
            "scale": self.survey.scale,
            "profile": self.survey.profile,
            "figures": asdict(self.findings),
        }


def run_demo(
    client: RewardClient,
    captioner: ImageCaptioner,
    *,
    count: int,
    seed: int,
    progress_bar: ProgressBar,
    resamples: int = 500,
) -> Demo:
    """Draws `count` scenes of the test split, captions them, scores them and measures.

    Args:
        client: a service with a similarity model and a detector.
        captioner: writes the captions whose hallucinations are looked for.
        count: scenes, 1 or more.
        seed: chooses the scenes; those of the test split are never trained on.
        progress_bar: shows how far a step is; gives the function that advances it.
        resamples: bootstrap samples behind each interval.

    Raises:
        ValueError: count is below 1, or the service could not score a scene.
        SightlineError: the service could not be asked.
    """
    began = time.monotonic()
    lexicon = load_lexicon("clean")
    with progress_bar("Drawing scenes", count) as advance:
        drawn = draw_scenes("test", count, seed=seed, on_progress=advance)
    with progress_bar("Captioning scenes", count) as advance:
        captioned = caption_scenes(captioner, drawn, seed=seed, on_progress=advance)
    with progress_bar("Scoring over HTTP", count) as advance:
        surveyed = survey(client, captioned, lexicon, seed=seed, on_progress=advance)
    findings = find(surveyed, lexicon, resamples=resamples)
    return Demo(seed, time.monotonic() - began, surveyed, findings)
