"""The service with the shipped fakes and a profile, as an app in this process."""

from fastapi import FastAPI

from sightline_core.fisao import Profile
from sightline_service.app import create_app
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings

PROFILE = Profile(
    name="default",
    model_id="fake",
    model_revision="fake",
    preprocess="fake",
    scale="cos100",
    mu_gt=10.0,
    mu_hal=-10.0,
    margin=1.0,
    s_min=-80.0,
    s_max=80.0,
    norm="corrected",
    n_gt=2,
    n_hal=2,
    created="2026-01-01T00:00:00Z",
    sightline_version="0.1.0",
)


def sound_app() -> FastAPI:
    """An app whose every path can answer 200, and whose store of images fills up soon."""
    profiles = {"default": PROFILE}
    models = Models(FakeSimilarity(), FakeDetector(), FakePerplexity(), profiles=profiles)
    return create_app(Settings(image_store_bytes=20_000_000), models)
