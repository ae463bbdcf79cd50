"""What is compared with what, and what must come out. Knows names and numbers; runs nothing."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

Model = Literal["vit-b-32", "tiny"]
Quantity = Literal[
    "rate", "p50", "p95", "p99", "p50_short", "forwards", "hit_rate", "cores", "memory_bytes"
]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to have a load done.

    Attributes:
        name: names it in reports.
        server: names one of the servers of `systems`, or "limit" for the in-process limits.
        dialect: names one of `DIALECTS`; for a limit, the kind of `LimitOrder`.
        load: names one of `LOADS`; None for the case's own.
        in_step: its connections ask for the same units at the same time.
        load_factor: open loop at this share of the rate that was seen before; 0 for closed.
    """

    name: str
    server: str
    dialect: str
    load: str | None = None
    in_step: bool = False
    load_factor: float = 0.0


def _limit(kind: str, name: str = "limit", load: str | None = None) -> Contender:
    return Contender(name, "limit", kind, load)


LIMIT = _limit("forward")
FLOOR = _limit("floor", "decode + forward")
TEXTS = _limit("texts", "texts only")
ONE = _limit("one", "one forward")
OURS = Contender("sightline", "sightline", "sentence-json")
PEERS = (
    Contender("infinity", "infinity", "infinity"),
    Contender("litserve", "litserve", "predict"),
    Contender("fastapi", "fastapi", "predict"),
)
NULL = Contender("null server", "null", "predict")


@dataclass(frozen=True, slots=True)
class Case:
    """One load on one model, done by several contenders in turn."""

    name: str
    model: Model
    load: str
    connections: int
    contenders: tuple[Contender, ...]

    def without(self, names: Collection[str]) -> "Case":
        """Returns the case with fewer contenders."""
        return replace(self, contenders=tuple(c for c in self.contenders if c.name not in names))


@dataclass(frozen=True, slots=True)
class Claim:
    """A target: what one contender must reach of another, in one case.

    The ratio is `of` / `against` in `quantity`, or, where `plus` is given, a bound on a difference:
    `of` <= `bound` * `against` + `plus`.
    """

    text: str
    case: str
    of: str
    against: str
    bound: float
    quantity: Quantity = "rate"
    against_quantity: Quantity | None = None
    at_most: bool = False
    plus: float = 0.0


def _against_peers(model: Model) -> tuple[Case, ...]:
    return (
        Case(f"{model}, 1 text", model, "distinct-1", 32, (LIMIT, FLOOR, OURS, *PEERS, NULL)),
        Case(f"{model}, 20 texts", model, "distinct-20", 32, (LIMIT, OURS, *PEERS)),
        Case(f"{model}, 16 connections", model, "distinct-1", 16, (LIMIT, OURS)),
        Case(f"{model}, 1 connection", model, "distinct-1", 1, (ONE, OURS)),
    )


def _alone(model: Model) -> tuple[Case, ...]:
    in_step = replace(OURS, name="in step", in_step=True)
    half = replace(OURS, load_factor=0.5)
    return (
        # So few that a model which takes 40 ms for one has seen them all before the window begins.
        Case(f"{model}, repeated images", model, "few-images-20", 32, (TEXTS, OURS)),
        Case(f"{model}, in step", model, "distinct-1", 32, (in_step,)),
        Case(
            f"{model}, 80 % load",
            model,
            "distinct-1",
            32,
            (OURS, replace(OURS, name="80 %", load_factor=0.8)),
        ),
        Case(
            f"{model}, long neighbours",
            model,
            "distinct-1",
            32,
            (
                replace(half, name="short alone"),
                replace(half, name="with long", load="long-texts"),
            ),
        ),
        # Half of what it takes in mixed sizes: half of what it takes of small ones is too much.
        Case(
            f"{model}, large neighbours",
            model,
            "mixed-sizes",
            32,
            (
                replace(half, name="small alone", load="distinct-1"),
                replace(half, name="with large"),
            ),
        ),
        Case(
            f"{model}, token rewards",
            model,
            "paragraphs",
            32,
            (
                Contender("sentence", "sightline", "sentence-json"),
                Contender("token, words known", "sightline", "token-json"),
                Contender("sentence, no cache", "sightline-uncached", "sentence-json"),
                Contender("token, no cache", "sightline-uncached", "token-json"),
            ),
        ),
    )


def _everybody_at(model: Model, connections: int) -> Case:
    name = f"{model}, everybody at {connections} connections"
    return Case(name, model, "distinct-1", connections, (LIMIT, OURS, *PEERS))


def _more(model: Model) -> tuple[Case, ...]:
    """What no target asks about."""
    return (
        *(_everybody_at(model, connections) for connections in (1, 8, 128)),
        Case(f"{model}, mixed sizes", model, "mixed-sizes", 32, (FLOOR, OURS, *PEERS)),
    )


def _all_repeated(model: Model) -> Case:
    cold = Contender("cold", "sightline", "sentence-json")
    warm = Contender("all repeated", "sightline", "sentence-protobuf", "few-images-and-texts")
    return Case(f"{model}, all repeated", model, "distinct-1", 32, (cold, warm))


_FORMATS = Case(
    "tiny, formats",
    "tiny",
    "distinct-1",
    32,
    (
        Contender("json", "sightline", "sentence-json"),
        Contender("protobuf", "sightline", "sentence-protobuf"),
        Contender("multipart", "sightline", "sentence-multipart"),
    ),
)


def _perplexity(model: Model) -> tuple[Case, ...]:
    name = f"{model}, perplexity"
    ours = Contender("sightline", "sightline", "perplexity-json")
    limit, floor = _limit("perplexity"), _limit("perplexity floor", "decode + forward")
    one = _limit("perplexity", "1 text an image", "distinct-1")
    return (
        Case(name, model, "distinct-1", 32, (limit, floor, ours)),
        Case(f"{name}, 20 texts", model, "distinct-20", 8, (one, ours)),
    )


_ONE_AND_TWO = (
    Contender("one core", "sightline-core-0", "sentence-json"),
    Contender("two replicas", "sightline-cores", "sentence-json"),
)
_REPLICAS = Case("two replicas", "vit-b-32", "distinct-1", 32, _ONE_AND_TWO)
_HITS = Case("two replicas, all repeated", "tiny", "repeated-all", 32, _ONE_AND_TWO)
_TRAINER = Case(
    "vit-b-32, a trainer's rewards",
    "vit-b-32",
    "groups-8",
    16,
    (_limit("reward function", "open_clip in process"), OURS),
)

CASES: tuple[Case, ...] = (
    *_against_peers("vit-b-32"),
    *_alone("vit-b-32"),
    *_perplexity("vit-b-32"),
    _all_repeated("vit-b-32"),
    _REPLICAS,
    _TRAINER,
    *_against_peers("tiny"),
    *_alone("tiny"),
    _all_repeated("tiny"),
    _FORMATS,
    _HITS,
    *_perplexity("tiny"),
)
MORE_CASES: tuple[Case, ...] = (*_more("vit-b-32"), *_more("tiny"))
"""Run only when asked for."""


def _claims_of(model: Model, *, infinity: tuple[float, float]) -> tuple[Claim, ...]:
    one, many = f"{model}, 1 text", f"{model}, 20 texts"
    return (
        Claim("of Infinity, 1 text", one, "sightline", "infinity", infinity[0]),
        Claim("of Infinity, 20 texts", many, "sightline", "infinity", infinity[1]),
        Claim("of decode + forward", one, "sightline", "decode + forward", 0.85),
        Claim(
            "p50 of units beside large images",
            f"{model}, large neighbours",
            "with large",
            "small alone",
            1.2,
            quantity="p50_short",
            at_most=True,
        ),
        Claim("generator: null server", one, "null server", "sightline", 3.0),
        Claim(
            "of the text-only limit, images repeated",
            f"{model}, repeated images",
            "sightline",
            "texts only",
            0.95,
        ),
        Claim("of cold, all repeated", f"{model}, all repeated", "all repeated", "cold", 20.0),
        Claim(
            "p99 of p50 at 80 % load",
            f"{model}, 80 % load",
            "80 %",
            "80 %",
            3.0,
            quantity="p99",
            against_quantity="p50",
            at_most=True,
        ),
        Claim(
            "p50 of short texts beside long ones",
            f"{model}, long neighbours",
            "with long",
            "short alone",
            1.2,
            quantity="p50_short",
            at_most=True,
        ),
        Claim(
            "forwards of 32 equal requests at a time, per distinct one",
            f"{model}, in step",
            "in step",
            "in step",
            1 / 32 + 0.002,
            quantity="forwards",
            at_most=True,
        ),
        *_token_claims(model),
    )


def _token_claims(model: Model) -> tuple[Claim, ...]:
    return (
        Claim(
            "cost of /token_reward by /sentence_reward, nothing cached",
            f"{model}, token rewards",
            "sentence, no cache",
            "token, no cache",
            1.0,
            at_most=True,
        ),
        Claim(
            "cost of /token_reward by /sentence_reward, words cached",
            f"{model}, token rewards",
            "sentence",
            "token, words known",
            0.6,
            at_most=True,
        ),
    )


def _perplexity_claims(model: Model) -> tuple[Claim, ...]:
    case, many = f"{model}, perplexity", f"{model}, perplexity, 20 texts"
    return (
        Claim("perplexity of its limit", case, "sightline", "limit", 0.9),
        Claim("perplexity, 20 texts an image by 1", many, "sightline", "1 text an image", 1.0),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim("of the limit, 1 text", "vit-b-32, 1 text", "sightline", "limit", 0.95),
    Claim("of the limit, 16 connections", "vit-b-32, 16 connections", "sightline", "limit", 0.95),
    Claim("of the limit, 20 texts", "vit-b-32, 20 texts", "sightline", "limit", 0.95),
    Claim(
        "latency at 1 connection, of one forward + 3 ms",
        "vit-b-32, 1 connection",
        "sightline",
        "one forward",
        1.10,
        quantity="p50",
        at_most=True,
        plus=0.003,
    ),
    *_claims_of("vit-b-32", infinity=(1.2, 2.5)),
    *_claims_of("tiny", infinity=(3.0, 3.0)),
    Claim("of LitServe, 1 text", "tiny, 1 text", "sightline", "litserve", 2.5),
    Claim("of LitServe, 20 texts", "tiny, 20 texts", "sightline", "litserve", 3.0),
    Claim("of plain FastAPI, 1 text", "tiny, 1 text", "sightline", "fastapi", 7.0),
    Claim("of plain FastAPI, 20 texts", "tiny, 20 texts", "sightline", "fastapi", 3.0),
    Claim("protobuf of JSON", "tiny, formats", "protobuf", "json", 1.3),
    Claim("multipart of JSON", "tiny, formats", "multipart", "json", 1.3),
    *_perplexity_claims("vit-b-32"),
    *_perplexity_claims("tiny"),
    Claim("two replicas of one core", "two replicas", "two replicas", "one core", 1.9),
    Claim(
        "cache hit rate of two replicas by one",
        "two replicas, all repeated",
        "two replicas",
        "one core",
        0.98,
        quantity="hit_rate",
    ),
    Claim(
        "a trainer's rewards, of open_clip in process",
        "vit-b-32, a trainer's rewards",
        "sightline",
        "open_clip in process",
        1.0,
    ),
)
"""The targets of the project, each on a case of `CASES`."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often."""

    seconds: float
    warm_up_s: float
    repeats: int
    cases: tuple[str, ...] = field(default=())

    def wants(self, case: Case) -> bool:
        """Whether the case's name holds one of the words asked for."""
        return not self.cases or any(word in case.name for word in self.cases)


FULL = Pace(seconds=5.0, warm_up_s=0.5, repeats=5)
QUICK = Pace(seconds=1.5, warm_up_s=0.5, repeats=1)
