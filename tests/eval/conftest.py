"""A small world to measure: fresh scenes, a scripted captioner and a verifier that mostly sees."""

import numpy as np
import pytest

from sightline import RewardClient
from sightline.testing import FakeService
from sightline_eval.demo import caption_fresh_scenes, run_demo
from sightline_eval.progress import progress_bar
from sightline_eval.world_captions import encode_png
from sightline_world.captions import habitual, mentioned
from sightline_world.scenes import scenes

HOSTILE = '<script>alert("x")</script> A <b>dog</b> & a "cat". A \'unicorn\'></mark>.'


class ScriptedCaptioner:
    """Says of each scene what the world's habits say; of the first one, something hostile."""

    def __init__(self, drawn):
        self._scenes = {scene.image.tobytes(): scene for scene in drawn}

    def caption(self, images, *, sampled=False, seed=0):
        return [self._caption(self._scenes[image.tobytes()], sampled) for image in images]

    def _caption(self, scene, sampled):
        if scene.index == 0:
            return HOSTILE
        return habitual(scene.layout, np.random.default_rng(scene.index + 100 * sampled))


def seeing_cosine(drawn):
    """A verifier that gives present objects 0.3, absent ones 0.1, and a text the mean of both."""
    layouts = {encode_png(scene.image): scene.layout for scene in drawn}

    def cosine(image, text):
        present = layouts[image].names
        parts = [0.3 if name in present else 0.1 for name in mentioned(text)]
        return float(np.mean(parts)) if parts else 0.2

    return cosine


@pytest.fixture(scope="session")
def demo():
    drawn = list(scenes("test", 12, seed=5))
    captioned = caption_fresh_scenes(
        ScriptedCaptioner(drawn), count=12, seed=5, progress_bar=progress_bar
    )
    service = FakeService(cosine=seeing_cosine(drawn))
    with RewardClient("http://fake", transport=service) as client:
        return run_demo(client, captioned, seed=5, progress_bar=progress_bar, resamples=50)
