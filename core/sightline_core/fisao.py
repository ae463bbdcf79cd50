"""FiSAO's token reward: calibration (Eq. 11) and reward (Eq. 12). Pure; knows no model."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Literal, Self, get_args

Scale = Literal["cos100", "clipscore", "dot", "conf100"]
Norm = Literal["corrected", "printed"]
Verdict = Literal["supported", "neutral", "hallucinated"]

SCALES: tuple[Scale, ...] = get_args(Scale)
NORMS: tuple[Norm, ...] = get_args(Norm)
DEFAULT_MARGINS: Mapping[Scale, float] = MappingProxyType(
    {"cos100": 4.0, "clipscore": 10.0, "dot": 10.0, "conf100": 10.0}
)
"""The paper's lambda = 10 is on a scale about 2.5 times as wide as 100 * cosine; for a detector's
confidence, in percent, it is taken as it stands."""

_NUMBERS = ("mu_gt", "mu_hal", "margin", "s_min", "s_max")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What turns a verifier's score into a reward: one calibration of one model, on one scale.

    ``mu_gt`` and ``mu_hal`` are the mean scores of correct and of hallucinated object mentions
    (Eq. 11), ``margin`` the paper's lambda, ``s_min`` and ``s_max`` the extreme scores of the
    calibration set; all on ``scale``. ``norm`` chooses the negative branch's denominator:
    "corrected" (mu_hal - lambda) - S_min, or "printed" (mu_gt - lambda) - S_min as in the paper.
    ``dataclasses.replace(profile, margin=2.0)`` gives a checked profile with another margin.

    Raises:
        ValueError: a field is unknown, not finite, or contradicts another.
    """

    name: str
    model_id: str
    model_revision: str
    preprocess: str
    scale: Scale
    mu_gt: float
    mu_hal: float
    margin: float
    s_min: float
    s_max: float
    norm: Norm
    n_gt: int
    n_hal: int
    created: str
    sightline_version: str

    def __post_init__(self) -> None:  # noqa: D105 - what it refuses is in the class's docstring
        _check_kinds(self)
        _check_order(self)

    @property
    def lower(self) -> float:
        """Scores below this are hallucinated: mu_hal - lambda."""
        return self.mu_hal - self.margin

    @property
    def upper(self) -> float:
        """Scores above this are supported: mu_gt + lambda."""
        return self.mu_gt + self.margin

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all fields: equal for equal profiles on any machine."""
        content = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def to_json(self) -> str:
        """The profile as a JSON object with its digest, for a file."""
        return json.dumps({**asdict(self), "digest": self.digest}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what ``to_json`` wrote; the digest may be left out.

        Raises:
            ValueError: not a JSON object, a field is missing, unknown or refused by ``Profile``,
                or the digest does not belong to the content.
        """
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"a profile is a JSON object, not {type(content).__name__}")
        digest = content.pop("digest", None)
        _check_names(set(content))
        profile = cls(**content)
        if digest not in (None, profile.digest):
            raise ValueError(
                f"profile {profile.name!r}: digest {digest!r} does not match the content "
                f"({profile.digest}): calibrate again, or remove the digest after editing by hand"
            )
        return profile


def _check_names(names: set[str]) -> None:
    known = {field.name for field in fields(Profile)}
    if missing := sorted(known - names):
        raise ValueError(f"profile lacks {', '.join(missing)}: calibrate again to write them")
    if unknown := sorted(names - known):
        raise ValueError(f"profile has unknown fields {', '.join(unknown)}: remove them")


def _check_kinds(profile: Profile) -> None:
    for name in (
        "name",
        "model_id",
        "model_revision",
        "preprocess",
        "created",
        "sightline_version",
    ):
        if not isinstance(getattr(profile, name), str):
            raise ValueError(f"{name} is {getattr(profile, name)!r}: give a string")
    for name in _NUMBERS:
        value = getattr(profile, name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ValueError(f"{name} is {value!r}: give a finite number")
        object.__setattr__(profile, name, float(value))  # 4 and 4.0 are one profile, one digest
    for name in ("n_gt", "n_hal"):
        value = getattr(profile, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {value!r}: give a count, 0 or more")
    if profile.scale not in SCALES:
        raise ValueError(f"scale is {profile.scale!r}: choose one of {', '.join(SCALES)}")
    if profile.norm not in NORMS:
        raise ValueError(f"norm is {profile.norm!r}: choose one of {', '.join(NORMS)}")


def _check_order(profile: Profile) -> None:
    if profile.margin < 0:
        raise ValueError(f"margin is {profile.margin}: give 0 or more")
    if profile.mu_gt <= profile.mu_hal:
        raise ValueError(
            f"mu_gt is {profile.mu_gt} and mu_hal {profile.mu_hal}: correct objects must score "
            "above hallucinated ones on average; use a better verifier, or check the ground truth"
        )
    if profile.s_min > profile.mu_hal:
        raise ValueError(f"s_min is {profile.s_min}, above mu_hal {profile.mu_hal}: lower s_min")
    if profile.s_max < profile.mu_gt:
        raise ValueError(f"s_max is {profile.s_max}, below mu_gt {profile.mu_gt}: raise s_max")


def calibrate(
    gt_scores: Iterable[float],
    hal_scores: Iterable[float],
    *,
    margin: float | None = None,
    scale: Scale = "cos100",
    norm: Norm = "corrected",
    name: str = "default",
    model_id: str = "",
    model_revision: str = "",
    preprocess: str = "",
    created: str = "",
    sightline_version: str = "",
) -> Profile:
    """The profile of a verifier from its scores of correct and of hallucinated mentions (Eq. 11).

    Args:
        gt_scores: one score on ``scale`` per mention of an object that is in the image.
        hal_scores: the same for objects that are not.
        margin: the paper's lambda, on ``scale``; by default ``DEFAULT_MARGINS[scale]``.
        scale: the unit of all scores.
        norm: the negative branch's denominator.
        name: the profile's name.
        model_id: the verifier's reference.
        model_revision: a hash of its weights.
        preprocess: a hash of its preprocessing.
        created: when, ISO 8601.
        sightline_version: what made it.

    Raises:
        ValueError: a set is empty or not finite, or mu_gt <= mu_hal.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}: choose one of {', '.join(SCALES)}")
    gt = _scores("gt_scores", gt_scores)
    hal = _scores("hal_scores", hal_scores)
    return Profile(
        name=name,
        model_id=model_id,
        model_revision=model_revision,
        preprocess=preprocess,
        scale=scale,
        mu_gt=math.fsum(gt) / len(gt),
        mu_hal=math.fsum(hal) / len(hal),
        margin=DEFAULT_MARGINS[scale] if margin is None else margin,
        s_min=min(*gt, *hal),
        s_max=max(*gt, *hal),
        norm=norm,
        n_gt=len(gt),
        n_hal=len(hal),
        created=created,
        sightline_version=sightline_version,
    )


def _scores(name: str, values: Iterable[float]) -> list[float]:
    scores = [float(value) for value in values]
    if not scores:
        raise ValueError(f"{name} is empty: calibrate on captions with such mentions")
    if not all(map(math.isfinite, scores)):
        raise ValueError(f"{name} holds a number that is not finite: remove it")
    return scores


def span_reward(score: float, profile: Profile) -> tuple[float, Verdict]:
    """The reward of one object mention, in [-1, 1], and what it says (Eq. 12, without the KL term).

    Below ``profile.lower`` the reward is N_neg <= 0, above ``profile.upper`` N_pos >= 0, between
    them exactly 0. Where the margin reaches beyond ``s_min`` or ``s_max`` no mention of the
    calibration set qualifies on that side, and the reward there is 0.

    Raises:
        ValueError: the score is not finite.
    """
    if not math.isfinite(score):
        raise ValueError(f"score is {score!r}: give a finite number")
    above, below = score - profile.upper, score - profile.lower
    if above > 0 and profile.s_max > profile.upper:
        return min(1.0, above / (profile.s_max - profile.upper)), "supported"
    if below < 0 and profile.s_min < profile.lower:
        top = profile.lower if profile.norm == "corrected" else profile.mu_gt - profile.margin
        return max(-1.0, below / (top - profile.s_min)), "hallucinated"
    return 0.0, "neutral"


def qualifying_shares(scores: Iterable[float], profile: Profile) -> tuple[float, float]:
    """The shares of scores that are rewarded below and above, each in [0, 1].

    A share under 0.01 says that the margin is too large for the verifier.
    """
    verdicts = [span_reward(score, profile)[1] for score in scores]
    n = max(1, len(verdicts))
    return verdicts.count("hallucinated") / n, verdicts.count("supported") / n


def to_scale(
    cosine: float,
    scale: Scale,
    *,
    image_norm: float | None = None,
    text_norm: float | None = None,
) -> float:
    """A cosine on the scale of a profile.

    "cos100" is 100 * cosine, "clipscore" 250 * cosine (CLIPScore's w = 2.5, not clamped at 0, so
    that order is kept), "dot" the dot product of the features before normalisation, which needs
    both norms.

    Raises:
        ValueError: the scale is unknown or of a detector, or "dot" lacks a norm.
    """
    if scale == "cos100":
        return 100.0 * cosine
    if scale == "clipscore":
        return 250.0 * cosine
    if scale == "conf100":
        raise ValueError('scale "conf100" is of a detector\'s confidence, which is no cosine')
    if scale != "dot":
        raise ValueError(f"scale is {scale!r}: choose one of {', '.join(SCALES)}")
    if image_norm is None or text_norm is None:
        raise ValueError('scale "dot" needs image_norm and text_norm: give both, or use "cos100"')
    return cosine * image_norm * text_norm
