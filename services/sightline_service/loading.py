"""Brings up the models and profiles that the settings name. Knows references; knows no HTTP."""

import atexit
import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sightline_service.models.load import (
    load_detector,
    load_perplexity,
    load_similarity,
    preflight,
)
from sightline_service.models.openmp import compute_alone
from sightline_service.profiles import ProfileFiles, read_profiles
from sightline_service.served import Models, Role
from sightline_service.service import Report
from sightline_service.settings import Settings

NOT_SERVED = "none"
EVERYWHERE = ("auto", "cpu")
"""Devices that every machine has: only for others is torch asked, whose import takes seconds."""
_SMALL = 20_000_000
"""Weights below which a forward pass takes milliseconds."""
_GARBAGE = 10_000
"""Objects of requests in progress that the collector need not go through again and again."""

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class ModelLoader:
    """Loads what `settings` name; what is wrong on its face is refused at construction.

    Raises:
        ModelLoadError: a reference or a file is at fault, or differs from the weights lock, or the
            device is not here; from a call, the model cannot be loaded.
        ProfileError: a profile cannot be read; from a call, it is of another model.
    """

    settings: Settings
    _profiles: ProfileFiles = field(init=False)

    def __post_init__(self) -> None:
        """Checks references, files, lock, device and profiles, the quickest first."""
        settings = self.settings
        for role, reference in self._references().items():
            preflight(role, reference, allow_pickle=settings.allow_pickle)
        if settings.weights_lock is not None:
            from sightline_service.models.weights_lock import check_locked

            check_locked(self._references().values(), settings.weights_lock)
        object.__setattr__(self, "_profiles", read_profiles(settings))
        if settings.device not in EVERYWHERE or settings.dtype == "float16":
            from sightline_service.models.placement import Placement

            Placement.resolve(settings.device, settings.dtype)

    @property
    def roles(self) -> tuple[Role, ...]:
        """What will be served."""
        return tuple(self._references())

    def __call__(self, report: Report) -> Models:
        """Loads one model after the other."""
        self._limit_threads()
        scorer = self.settings.token_scorer
        similarity = self._load("similarity", load_similarity, report)
        detector = self._load("detector", load_detector, report)
        scored_by = similarity if scorer == "similarity" else detector
        profiles = self._profiles.matching(scored_by.info, scorer) if scored_by else {}
        perplexity = self._load("perplexity", load_perplexity, report)
        models = Models(similarity, detector, perplexity, profiles, scorer)
        if not self.settings.torch_threads:
            _spare_threads(models)
        _spare_collector()
        return models

    def _load(self, role: Role, load: Callable[..., Model], report: Report) -> Model | None:
        reference = self._references().get(role)
        if reference is None:
            return None
        settings = self.settings
        report(role, "loading")
        model = load(
            reference,
            device=settings.device,
            dtype=settings.dtype,
            allow_pickle=settings.allow_pickle,
        )
        report(role, "ready")
        return model

    def _references(self) -> dict[Role, str]:
        settings = self.settings
        named: dict[Role, str] = {
            "similarity": settings.similarity,
            "detector": settings.detector,
            "perplexity": settings.perplexity,
        }
        return {role: reference for role, reference in named.items() if reference != NOT_SERVED}

    def _limit_threads(self) -> None:
        if self.settings.torch_threads:
            import torch

            torch.set_num_threads(self.settings.torch_threads)


def _spare_threads(models: Models) -> None:
    """Has models that are all small compute on one thread each.

    A second thread shortens their forward passes little, and takes its core from those who read
    requests and prepare images: with it a tiny CLIP served a seventh fewer requests.
    """
    largest = max(model.n_weights for _, model in models.by_role())
    if 0 < largest < _SMALL:
        compute_alone()


def _spare_collector() -> None:
    """Takes what was loaded, which stays, out of the garbage collector's rounds, and rarefies them.

    They took a sixth of the event loop's time.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # some libraries complain of objects that outlive the end
    gc.set_threshold(_GARBAGE)
