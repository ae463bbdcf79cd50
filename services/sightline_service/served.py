"""What one process serves: models by role, and calibration profiles. Knows no HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sightline_core.fisao import Profile
from sightline_service.models.protocols import Detector, PerplexityModel, SimilarityModel

Role = Literal["similarity", "detector", "perplexity"]
TokenScorer = Literal["similarity", "detector"]

_ENDPOINTS_OF: dict[Role, tuple[str, ...]] = {
    "similarity": ("sentence_reward",),
    "detector": ("ground",),
    "perplexity": ("perplexity",),
}
DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a service; None where a role is not served.

    `profiles` holds the calibrations of the token scorer by name; "default" is applied where a
    request names none. `token_scorer` says whose scores /token_reward turns into rewards.
    """

    similarity: SimilarityModel | None = None
    detector: Detector | None = None
    perplexity: PerplexityModel | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict[str, Profile])
    token_scorer: TokenScorer = "similarity"

    def by_role(self) -> Iterator[tuple[Role, SimilarityModel | Detector | PerplexityModel]]:
        """Yields the roles that are served."""
        if self.similarity is not None:
            yield "similarity", self.similarity
        if self.detector is not None:
            yield "detector", self.detector
        if self.perplexity is not None:
            yield "perplexity", self.perplexity

    def endpoints_of(self, role: Role) -> tuple[str, ...]:
        """The endpoints that a role answers."""
        first = ("token_reward",) if role == self.token_scorer else ()
        return (*first, *_ENDPOINTS_OF[role])
