"""The demonstration: scenes, captions, scores, figures. Knows the parts; shows nothing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from sightline import RewardClient
from sightline_eval.findings import Findings, find
from sightline_eval.lexicon import load_lexicon
from sightline_eval.survey import Survey, survey
from sightline_eval.world_captions import (
    CaptionedScene,
    ImageCaptioner,
    caption_scenes,
    draw_scenes,
)

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the demonstration."""

    seed: int
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
            "similarity": self.survey.similarity.model_dump(),
            "detector": self.survey.detector.model_dump(),
            "scale": self.survey.scale,
            "profile": self.survey.profile,
            "figures": asdict(self.findings),
        }


def caption_fresh_scenes(
    captioner: ImageCaptioner, *, count: int, seed: int, progress_bar: ProgressBar
) -> list[CaptionedScene]:
    """Draws `count` scenes of the test split, which no model was trained on, and captions them.

    Args:
        captioner: writes the captions whose hallucinations are looked for.
        count: scenes, 1 or more.
        seed: chooses the scenes.
        progress_bar: shows how far a step is; gives the function that advances it.
    """
    with progress_bar("Drawing scenes", count) as advance:
        drawn = draw_scenes("test", count, seed=seed, on_progress=advance)
    with progress_bar("Captioning scenes", count) as advance:
        return caption_scenes(captioner, drawn, seed=seed, on_progress=advance)


def run_demo(
    client: RewardClient,
    captioned: Sequence[CaptionedScene],
    *,
    seed: int,
    progress_bar: ProgressBar,
    resamples: int = 500,
) -> Demo:
    """Scores captioned scenes over HTTP and measures what the scores are worth.

    Args:
        client: a service with a similarity model and a detector.
        captioned: one scene or more.
        seed: chooses the hard negatives.
        progress_bar: shows how far a step is; gives the function that advances it.
        resamples: bootstrap samples behind each interval.

    Raises:
        ValueError: the service could not score a scene, or there are none.
        SightlineError: the service could not be asked.
    """
    lexicon = load_lexicon("clean")
    with progress_bar("Scoring over HTTP", len(captioned)) as advance:
        surveyed = survey(client, captioned, lexicon, seed=seed, on_progress=advance)
    return Demo(seed, surveyed, find(surveyed, lexicon, resamples=resamples))
