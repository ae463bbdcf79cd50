"""What a service says of captioned scenes: scores and boxes. Knows a client and the world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline import RewardClient
from sightline_eval.labels import label_spans
from sightline_eval.lexicon import Lexicon
from sightline_eval.world_captions import CaptionedScene
from sightline_proto import (
    Detection,
    GroundItem,
    GroundItemReply,
    GroundRequest,
    Image,
    ModelInfo,
    SentenceRewardItem,
    SentenceRewardItemReply,
    SentenceRewardRequest,
    SentenceRewardResult,
    SentenceScore,
    SpanReward,
    TokenRewardItem,
    TokenRewardItemReply,
    TokenRewardRequest,
    TokenRewardResult,
)
from sightline_world.captions import Swap, swap
from sightline_world.categories import NAMES
from sightline_world.splits import stream

_SCENES_PER_REQUEST = 20


@dataclass(frozen=True, slots=True)
class ScoredText:
    """One text about one scene.

    `labels` has one entry per span: True in the scene, False hallucinated, None of no category.
    `score` is 100 * cosine of the whole text, not cut at 0.
    """

    text: str
    spans: tuple[SpanReward, ...]
    labels: tuple[bool | None, ...]
    score: float
    sentences: tuple[SentenceScore, ...]

    def sentence_of(self, span: SpanReward) -> SentenceScore:
        """The sentence that holds the span's first character."""
        return next(s for s in self.sentences if s.start <= span.start < s.end)


@dataclass(frozen=True, slots=True)
class SurveyedScene:
    """One scene with everything that was asked about it.

    `faithful` and `swapped` are the two captions of `swap`: the truth, and the same with one
    scene-likely absent object in the place of a present one. `detections` are for the names of all
    categories, at the default thresholds.
    """

    captioned: CaptionedScene
    truth: frozenset[str]
    swap: Swap
    greedy: ScoredText
    sampled: ScoredText
    faithful: ScoredText
    swapped: ScoredText
    detections: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """All scenes, and which models gave the answers."""

    scenes: tuple[SurveyedScene, ...]
    similarity: ModelInfo
    detector: ModelInfo
    scale: str
    profile: str | None


def survey(
    client: RewardClient,
    captioned: Sequence[CaptionedScene],
    lexicon: Lexicon,
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Asks `/token_reward`, `/sentence_reward` and `/ground` about each scene.

    Raises:
        ValueError: there are no scenes, or the service could not score one of them.
    """
    if not captioned:
        raise ValueError("count is 0: survey at least one scene")
    parts: list[Survey] = []
    for start in range(0, len(captioned), _SCENES_PER_REQUEST):
        batch = captioned[start : start + _SCENES_PER_REQUEST]
        parts.append(_survey_batch(client, batch, lexicon, seed))
        on_progress(len(batch))
    scenes = tuple(scene for part in parts for scene in part.scenes)
    first = parts[0]
    return Survey(scenes, first.similarity, first.detector, first.scale, first.profile)


def _survey_batch(
    client: RewardClient, batch: Sequence[CaptionedScene], lexicon: Lexicon, seed: int
) -> Survey:
    swaps = [_swap(item, seed) for item in batch]
    images = [Image(item.png) for item in batch]
    pairs = [
        (image, (item.greedy, item.sampled, pair.faithful, pair.hallucinated))
        for image, item, pair in zip(images, batch, swaps, strict=True)
    ]
    tokens = client.send(
        TokenRewardRequest(items=tuple(TokenRewardItem(image=i, texts=t) for i, t in pairs))
    )
    sentences = client.send(
        SentenceRewardRequest(items=tuple(SentenceRewardItem(image=i, texts=t) for i, t in pairs))
    )
    boxes = client.send(
        GroundRequest(items=tuple(GroundItem(image=image, phrases=NAMES) for image in images))
    )
    answers = zip(batch, swaps, tokens.items, sentences.items, boxes.items, strict=True)
    scenes = tuple(_surveyed(*answer, lexicon) for answer in answers)
    return Survey(scenes, tokens.model, boxes.model, tokens.scale, tokens.profile)


def _surveyed(
    item: CaptionedScene,
    pair: Swap,
    tokens: TokenRewardItemReply,
    sentences: SentenceRewardItemReply,
    boxes: GroundItemReply,
    lexicon: Lexicon,
) -> SurveyedScene:
    for reply in (tokens, sentences, boxes):
        if reply.error is not None:
            raise ValueError(f"scene {item.scene.index} failed: {reply.error.message}")
    assert tokens.results is not None
    assert sentences.results is not None
    assert boxes.result is not None
    truth = frozenset(lexicon.objects[name] for name in item.scene.layout.names)
    texts = (item.greedy, item.sampled, pair.faithful, pair.hallucinated)
    greedy, sampled, faithful, swapped = (
        _scored(text, spans, whole, truth, lexicon)
        for text, spans, whole in zip(texts, tokens.results, sentences.results, strict=True)
    )
    detections = boxes.result.detections
    return SurveyedScene(item, truth, pair, greedy, sampled, faithful, swapped, detections)


def _swap(item: CaptionedScene, seed: int) -> Swap:
    scene = item.scene
    return swap(scene.layout, stream(scene.split, scene.index, purpose="absent", seed=seed))


def _scored(
    text: str,
    tokens: TokenRewardResult,
    whole: SentenceRewardResult,
    truth: frozenset[str],
    lexicon: Lexicon,
) -> ScoredText:
    return ScoredText(
        text=text,
        spans=tokens.spans,
        labels=label_spans(text, tokens.spans, truth, lexicon),
        score=100 * whole.cosine,
        sentences=whole.sentences,
    )
