"""Which runs reproduce a paper: a table of variants per method. Knows fields; runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

BASE = "base"
"""The row of the policy before training."""
FEWEST_SCENES = 10
"""With fewer held-out scenes, POPE has too few objects to ask for."""
Yields = Literal["adapter", "iterations", "answers"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One training run, and what of it is evaluated.

    Attributes:
        name: of its row and its folder.
        label: what a reader calls it.
        fields: what differs from the recipe, by the path of the field. In values "{out}" stands
            for the reproduction's folder, "{profile}" for the world's calibration profile,
            "{split}" and "{scenes}" for the held-out scenes.
        yields: its last adapter; the adapter of each iteration, a row each; or answers to the
            held-out images that it writes itself, without training.
        main: whether it is one of the few that the headline rests on.
    """

    name: str
    label: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    yields: Yields = "adapter"
    main: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One method's runs.

    Attributes:
        method: as in `sightline train`; also the name of its own variant.
        title: the method's name in print.
        service: options of a service that has no more models than are needed.
        variants: in the order in which they are run.
        scored: whether the verifier's scores of the objects that captions name are wanted.
        weighed: whether the weights of sentences under the method's own policy are wanted.
    """

    method: str
    title: str
    service: tuple[str, ...]
    variants: tuple[Variant, ...]
    scored: bool = False
    weighed: bool = False

    def choose(self, asked: Sequence[str]) -> tuple[Variant, ...]:
        """The variants of "all", "main", or of these names, in the order of the plan.

        Raises:
            ValueError: a name is unknown, or there is none.
        """
        known = [variant.name for variant in self.variants]
        for name in asked:
            if name not in (*known, "all", "main"):
                raise ValueError(
                    f"{self.method} has no variant {name!r}: choose among main, all, "
                    f"{', '.join(known)}"
                )
        if not asked:
            raise ValueError(f"variants is empty: give main, all, or some of {', '.join(known)}")
        return tuple(
            variant
            for variant in self.variants
            if "all" in asked or variant.name in asked or ("main" in asked and variant.main)
        )


def _margin(value: str) -> Variant:
    fields = {"reward.profile_file": "{profile}", "reward.margin": value}
    return Variant(f"margin-{value}", f"margin {value}", fields)


_SIMILARITY = ("--detector", "none", "--perplexity", "none")
_DETECTOR = ("--similarity", "none", "--perplexity", "none", "--profile", "none")
_UNSCORED = {"projection.select": "random"}
_UNGROUNDED = {**_UNSCORED, "projection.grounding": "false"}
_PAIRS = {"pairs.folder": "{out}/pairs"}

PLANS: Mapping[str, Plan] = {
    "fisao": Plan(
        "fisao",
        "FiSAO",
        _SIMILARITY,
        (
            Variant("fisao", "FiSAO", main=True),
            Variant("sentence", "sentence-level reward", {"reward_level": "sentence"}, main=True),
            Variant("response", "caption-level reward", {"reward_level": "response"}, main=True),
            _margin("0"),
            _margin("5"),
            _margin("10"),
            _margin("20"),
            Variant("kl-paper", "KL at rewarded tokens only (Eq. 12)", {"kl_scope": "paper"}),
        ),
        scored=True,
    ),
    "csr": Plan(
        "csr",
        "CSR",
        _SIMILARITY,
        (
            Variant("csr", "CSR", yields="iterations", main=True),
            Variant("judge", "self-rewarding", {"preference": "judge"}, main=True),
            Variant("only-rt", "only R_T", {"search.weight": "0"}),
            Variant("only-ri", "only R_I", {"search.weight": "1"}),
        ),
    ),
    "aspo": Plan(
        "aspo",
        "ASPO",
        _SIMILARITY,
        (
            Variant("dpo", "DPO on the same pairs", {**_PAIRS, "loss": "dpo"}, main=True),
            Variant("aspo", "ASPO (sentences, S+P)", _PAIRS, main=True),
            Variant("level-response", "response level", {**_PAIRS, "level": "response"}),
            Variant("level-token", "token level", {**_PAIRS, "level": "token"}),
            Variant("metric-s", "S only", {**_PAIRS, "metrics": "S"}),
            Variant("metric-p", "P only", {**_PAIRS, "metrics": "P"}),
        ),
        weighed=True,
    ),
    "svp": Plan(
        "svp",
        "SVP",
        _DETECTOR,
        (
            Variant("svp", "SVP", main=True),
            Variant("unscored", "grounding, no scoring", _UNSCORED, main=True),
            Variant("ungrounded", "neither grounding nor scoring", _UNGROUNDED, main=True),
            Variant(
                "isvp",
                "iSVP (boxes, but no training)",
                {
                    "inference_only": "true",
                    "images_per_step": "10",
                    "projection.queries": "none",
                    "data.world_split": "{split}",
                    "data.limit": "{scenes}",
                },
                yields="answers",
            ),
        ),
    ),
}
"""In words: the method itself, its ablations, and the baseline that its paper compares it with."""
