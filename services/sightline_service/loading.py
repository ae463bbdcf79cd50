"""Brings up the models and profiles that the settings name. Knows references; knows no HTTP."""

from dataclasses import dataclass, field

from sightline_core.fisao import Profile
from sightline_service.models.load import load_detector, load_perplexity, load_similarity
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.profiles import ProfileFiles, read_profiles
from sightline_service.served import Models, Role
from sightline_service.service import Report
from sightline_service.settings import Settings

NOT_SERVED = "none"


@dataclass(frozen=True, slots=True)
class ModelLoader:
    """Loads what `settings` name; what is wrong on its face is refused at construction.

    Raises:
        ModelLoadError: a reference is malformed, or a file differs from the weights lock; from a
            call, the model cannot be loaded.
        ProfileError: a profile cannot be read; from a call, it is of another model.
    """

    settings: Settings
    _profiles: ProfileFiles = field(init=False)

    def __post_init__(self) -> None:
        """Parses references, compares files with the lock and reads profiles."""
        for reference in self._references().values():
            _check_folder(ModelReference.parse(reference))
        if self.settings.weights_lock is not None:
            from sightline_service.models.weights_lock import check_locked

            check_locked(self._references().values(), self.settings.weights_lock)
        object.__setattr__(self, "_profiles", read_profiles(self.settings))

    @property
    def roles(self) -> tuple[Role, ...]:
        """What will be served."""
        return tuple(self._references())

    def __call__(self, report: Report) -> Models:
        """Loads one model after the other."""
        self._limit_threads()
        place = {"device": self.settings.device, "dtype": self.settings.dtype}
        references = self._references()
        similarity = detector = perplexity = None
        profiles: dict[str, Profile] = {}
        if "similarity" in references:
            report("similarity", "loading")
            similarity = load_similarity(references["similarity"], **place)
            profiles = dict(self._profiles.matching(similarity.info))
            report("similarity", "ready")
        if "detector" in references:
            report("detector", "loading")
            detector = load_detector(references["detector"], **place)
            report("detector", "ready")
        if "perplexity" in references:
            report("perplexity", "loading")
            perplexity = load_perplexity(references["perplexity"], **place)
            report("perplexity", "ready")
        return Models(similarity, detector, perplexity, profiles)

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


def _check_folder(reference: ModelReference) -> None:
    if reference.folder is not None and not reference.folder.is_dir():
        raise ModelLoadError(f"{reference.text}: there is no folder {reference.folder}")
