"""The figures of the demo, from a survey. Knows scores and ground truth; asks and draws nothing."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sightline_eval.bootstrap import Estimate
from sightline_eval.chair import ChairScores, check_caption
from sightline_eval.chair import summarise as summarise_chair
from sightline_eval.detection import DetectionScores, LabelledBox, Matches, match
from sightline_eval.detection import summarise as summarise_boxes
from sightline_eval.lexicon import Lexicon
from sightline_eval.separation import (
    ImageScores,
    Separation,
    compare,
    paired_accuracy_of,
    pooled_auroc,
    separate,
)
from sightline_eval.survey import ScoredText, Survey, SurveyedScene
from sightline_world.categories import INDEX, prior, scene_type
from sightline_world.scenes import SIZE

LEVELS = ("token", "sentence", "caption")


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the demo measures.

    Attributes:
        own: how the captioner's own object mentions separate, by kind of caption ("greedy",
            "sampled") and level: the score of the mention, of its sentence, of its caption
            (FiSAO, Fig. 1).
        hard: how present objects separate from scene-likely absent ones, by level: "token" (nouns),
            "sentence" and "caption" (the same text with and without one swapped object), and
            "prior token", "prior caption" (the frequency of the objects in such scenes; no image).
        gap: by how much words separate better than captions on the hard negatives; below 0 where
            captions do. "pooled" compares the AUROCs; "paired" the two swapped words with the two
            captions that they are in, so that both sides answer the same question.
        chair: the captions' hallucinations, by kind.
        boxes: the detector's recall and precision at IoU 0.5.
        verdicts: how many of the captioner's mentions got which verdict, by "correct" and
            "hallucinated"; empty where no profile is served.
    """

    own: Mapping[str, Mapping[str, Separation]]
    hard: Mapping[str, Separation]
    gap: Mapping[str, Estimate]
    chair: Mapping[str, ChairScores]
    boxes: DetectionScores
    verdicts: Mapping[str, Mapping[str, int]]


def find(survey: Survey, lexicon: Lexicon, *, resamples: int = 500) -> Findings:
    """Measures a survey; intervals are bootstrapped over scenes."""
    scenes = survey.scenes
    kinds: Mapping[str, Callable[[SurveyedScene], ScoredText]] = {
        "greedy": lambda scene: scene.greedy,
        "sampled": lambda scene: scene.sampled,
    }
    return Findings(
        own={
            kind: {
                level: separate(own_scores(scenes, text_of, level), resamples=resamples)
                for level in LEVELS
            }
            for kind, text_of in kinds.items()
        },
        hard={name: separate(hard_scores(scenes, name), resamples=resamples) for name in _HARD},
        gap={
            name: compare(words, hard_scores(scenes, "caption"), statistic, resamples=resamples)
            for name, words, statistic in (
                ("pooled", hard_scores(scenes, "token"), pooled_auroc),
                ("paired", [_swapped_words(scene) for scene in scenes], paired_accuracy_of),
            )
        },
        chair={
            kind: summarise_chair(
                [check_caption(text_of(s).text, s.truth, lexicon) for s in scenes],
                resamples=resamples,
            )
            for kind, text_of in kinds.items()
        },
        boxes=summarise_boxes([_matches(scene) for scene in scenes], resamples=resamples),
        verdicts=_verdicts([text_of(s) for s in scenes for text_of in kinds.values()]),
    )


def own_scores(
    scenes: Sequence[SurveyedScene], text_of: Callable[[SurveyedScene], ScoredText], level: str
) -> list[ImageScores]:
    """Per scene, the scores of the correct and hallucinated mentions of a caption at one level."""
    return [_mention_scores(text_of(scene), level) for scene in scenes]


def hard_scores(scenes: Sequence[SurveyedScene], level: str) -> list[ImageScores]:
    """Per scene, the scores of what is there and of its hard negative at one level of `hard`."""
    return [_HARD[level](scene) for scene in scenes]


def _mention_scores(text: ScoredText, level: str) -> ImageScores:
    scores: dict[bool | None, list[float]] = {True: [], False: [], None: []}
    for span, label in zip(text.spans, text.labels, strict=True):
        by_level = {
            "token": span.score,
            "sentence": text.sentence_of(span).score,
            "caption": text.score,
        }
        scores[label].append(by_level[level])
    return ImageScores(tuple(scores[True]), tuple(scores[False]))


def _hard_tokens(scene: SurveyedScene) -> ImageScores:
    present = _mention_scores(scene.faithful, "token").correct
    return ImageScores(present, _mention_scores(scene.swapped, "token").hallucinated)


def _swapped_words(scene: SurveyedScene) -> ImageScores:
    """The removed object against the inserted one: the word's view of the pair of captions."""
    removed = (s.score for s in scene.faithful.spans if s.entity == scene.swap.removed)
    inserted = (s.score for s in scene.swapped.spans if s.entity == scene.swap.inserted)
    return ImageScores(tuple(removed), tuple(inserted))


def _hard_sentences(scene: SurveyedScene) -> ImageScores:
    pairs = zip(scene.faithful.sentences, scene.swapped.sentences, strict=True)
    changed = [(true.score, false.score) for true, false in pairs if true.text != false.text]
    return ImageScores(tuple(true for true, _ in changed), tuple(false for _, false in changed))


def _hard_captions(scene: SurveyedScene) -> ImageScores:
    return ImageScores((scene.faithful.score,), (scene.swapped.score,))


def _prior_tokens(scene: SurveyedScene) -> ImageScores:
    layout = scene.captioned.scene.layout
    present = tuple(_frequency(scene, name) for name in layout.names)
    return ImageScores(present, (_frequency(scene, scene.swap.inserted),))


def _prior_captions(scene: SurveyedScene) -> ImageScores:
    names = scene.captioned.scene.layout.names
    whole = sum(_frequency(scene, name) for name in names)
    swapped = whole - _frequency(scene, scene.swap.removed) + _frequency(scene, scene.swap.inserted)
    return ImageScores((whole / len(names),), (swapped / len(names),))


def _frequency(scene: SurveyedScene, name: str) -> float:
    return float(prior(scene_type(scene.captioned.scene.layout.kind))[INDEX[name]])


_HARD: Mapping[str, Callable[[SurveyedScene], ImageScores]] = {
    "token": _hard_tokens,
    "sentence": _hard_sentences,
    "caption": _hard_captions,
    "prior token": _prior_tokens,
    "prior caption": _prior_captions,
}


def _matches(scene: SurveyedScene) -> Matches:
    found = [LabelledBox(d.phrase, d.box) for d in scene.detections]
    return match(found, true_boxes(scene))


def true_boxes(scene: SurveyedScene) -> list[LabelledBox]:
    """The scene's boxes as fractions of the image."""
    boxes: list[LabelledBox] = []
    for thing in scene.captioned.scene.layout.objects:
        x1, y1, x2, y2 = thing.box
        boxes.append(LabelledBox(thing.name, (x1 / SIZE, y1 / SIZE, x2 / SIZE, y2 / SIZE)))
    return boxes


def _verdicts(texts: Sequence[ScoredText]) -> dict[str, dict[str, int]]:
    counts = {True: Counter[str](), False: Counter[str]()}
    for text in texts:
        for span, label in zip(text.spans, text.labels, strict=True):
            if label is not None and span.verdict is not None:
                counts[label][span.verdict] += 1
    if not counts[True] and not counts[False]:
        return {}
    return {"correct": dict(counts[True]), "hallucinated": dict(counts[False])}
