"""Calibration profiles from files, checked against the model. Knows files; knows no HTTP."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sightline_core.fisao import Profile, Scale
from sightline_proto import ModelInfo
from sightline_service.served import DEFAULT_PROFILE, TokenScorer
from sightline_service.settings import Settings

log = logging.getLogger(__name__)

_SCALES: dict[TokenScorer, tuple[Scale, ...]] = {
    "similarity": ("cos100", "clipscore"),
    "detector": ("conf100",),
}


class ProfileError(ValueError):
    """A profile cannot be used; the message names the file and the mend."""


@dataclass(frozen=True, slots=True)
class ProfileFiles:
    """The profiles that the settings name; `shipped` says that the default came with the model."""

    default: Profile | None
    named: tuple[Profile, ...]
    shipped: bool = False

    def matching(self, model: ModelInfo, scorer: TokenScorer = "similarity") -> dict[str, Profile]:
        """Returns the profiles by name, with the default also under "default".

        A shipped profile of other weights is left out with a warning.

        Args:
            model: gives the scores that the profiles turn into rewards.
            scorer: what kind of model it is.

        Raises:
            ProfileError: a profile was made with another model.
        """
        default = self.default
        if self.shipped and default is not None and (fault := _mismatch(default, model, scorer)):
            log.warning("the shipped profile is left out: %s", fault)
            default = None
        chosen = [*self.named, *([default] if default is not None else [])]
        for profile in chosen:
            if fault := _mismatch(profile, model, scorer):
                raise ProfileError(fault)
        by_name = {profile.name: profile for profile in chosen}
        return by_name if default is None else {**by_name, DEFAULT_PROFILE: default}


def read_profiles(settings: Settings) -> ProfileFiles:
    """Reads the files that `profile` and `profiles_dir` name.

    Raises:
        ProfileError: a file is missing or is no profile, or two share a name.
    """
    folder = settings.profiles_dir
    if folder is not None and not folder.is_dir():
        raise ProfileError(
            f"profiles_dir is {folder}, which is no folder: create it or leave it out"
        )
    named = tuple(_read(path) for path in sorted(folder.glob("*.json"))) if folder else ()
    _check_distinct(named)
    if settings.profile == "auto":
        shipped = _shipped_path(settings)
        return ProfileFiles(_read(shipped) if shipped else None, named, shipped=True)
    if settings.profile == "none":
        return ProfileFiles(None, named)
    return ProfileFiles(_read(Path(settings.profile)), named)


def _shipped_path(settings: Settings) -> Path | None:
    if settings.similarity != "world" or settings.token_scorer != "similarity":  # nosec B105
        return None
    from sightline_world import weights

    path = weights.profile_path()
    return path if path.is_file() else None


def _read(path: Path) -> Profile:
    try:
        return Profile.from_json(path.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(f"profile {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ProfileError(f"{path} is no profile: {error}") from None


def _check_distinct(profiles: Iterable[Profile]) -> None:
    names = [profile.name for profile in profiles]
    twice = sorted({name for name in names if names.count(name) > 1 or name == DEFAULT_PROFILE})
    if twice:
        raise ProfileError(
            f"profiles_dir holds {', '.join(twice)} twice, or under the reserved name "
            f"{DEFAULT_PROFILE!r}: give each profile its own name"
        )


def _mismatch(profile: Profile, model: ModelInfo, scorer: TokenScorer) -> str | None:
    """Says why a profile does not fit the model; what it does not record is not compared."""
    if profile.scale == "dot":
        return (
            f"profile {profile.name!r} is on scale 'dot', which needs features before "
            "normalisation: calibrate on 'cos100' or 'clipscore'"
        )
    if profile.scale not in _SCALES[scorer]:
        return (
            f"profile {profile.name!r} is on scale {profile.scale!r}, and the token scorer is the "
            f"{scorer}, on {_SCALES[scorer][0]!r}: run 'sightline calibrate' with this service"
        )
    made_with = (profile.model_revision or model.revision, profile.preprocess or model.preprocess)
    if made_with == (model.revision, model.preprocess):
        return None
    return (
        f"profile {profile.name!r} was made with {profile.model_id} (revision "
        f"{made_with[0]}, preprocess {made_with[1]}), and {model.id} (revision {model.revision}, "
        f"preprocess {model.preprocess}) is served: run 'sightline calibrate' with this model"
    )
