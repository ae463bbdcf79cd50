"""The service with the shipped fakes and a profile, as an app in this process."""

from dataclasses import replace

from fastapi import FastAPI

from sightline.fake_scores import FAKE_PROFILE
from sightline_service.app import create_app
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings

PROFILE = replace(FAKE_PROFILE, name="default", mu_gt=10.0, mu_hal=-10.0, s_min=-80.0, s_max=80.0)


def sound_app() -> FastAPI:
    """An app whose every path can answer 200, and whose store of images fills up soon."""
    profiles = {"default": PROFILE}
    models = Models(FakeSimilarity(), FakeDetector(), FakePerplexity(), profiles=profiles)
    return create_app(Settings(image_store_bytes=20_000_000), models)
