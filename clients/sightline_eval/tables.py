"""The demo's figures as plain tables, for terminal and page. Knows findings; renders nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sightline_eval.chair import ChairScores
from sightline_eval.findings import LEVELS, Findings
from sightline_eval.separation import Separation

_LEVEL_NAMES = {
    "token": "word",  # nosec B105 # a name to show
    "sentence": "sentence",
    "caption": "caption",
    "prior token": "no image, word",
    "prior caption": "no image, caption",
}
_SEPARATION_COLUMNS = ("score of", "AUROC pooled", "paired in image", "right/wrong")
_VERDICTS = ("supported", "neutral", "hallucinated")


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A title, one heading per column, rows of as many cells, and what the figures mean."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def tabulate(findings: Findings) -> Iterator[PlainTable]:
    """Every figure with its 95 % interval."""
    yield PlainTable(
        "Hard negatives: present objects against absent ones that the scene makes likely",
        _SEPARATION_COLUMNS,
        (
            *(_separation(_LEVEL_NAMES[name], it) for name, it in findings.hard.items()),
            (
                "word minus caption",
                findings.gap["pooled"].difference(),
                findings.gap["paired"].difference(),
                "",
            ),
        ),
        "Sentence and caption: a faithful text against the same text with one hard negative "
        "swapped in. No image: how often such scenes hold the object. Paired: right above wrong "
        "in the same image; the difference of pairs is of the two swapped words alone.",
    )
    yield PlainTable(
        "The captioner's own mentions: correct against hallucinated",
        _SEPARATION_COLUMNS,
        tuple(
            _separation(f"{kind}, {_LEVEL_NAMES[level]}", by_level[level])
            for kind, by_level in findings.own.items()
            for level in LEVELS
        ),
        "Each mention has its word's score, its sentence's and its caption's (FiSAO, Figure 1). "
        "The mentions of one caption share the last, so its pairs tie.",
    )
    yield _chair(findings.chair)
    boxes = findings.boxes
    yield PlainTable(
        "Detector at its default thresholds, asked for all categories",
        ("", "recall", "precision", "true/found boxes"),
        (
            (
                "IoU >= 0.5, right name",
                boxes.recall.share(),
                boxes.precision.share(),
                f"{boxes.n_true:,}/{boxes.n_found:,}",
            ),
        ),
        "A box counts once, for the best match of its own category.",
    )
    if findings.verdicts:
        yield _verdicts(findings.verdicts)


def _separation(name: str, separation: Separation) -> tuple[str, ...]:
    counts = f"{separation.n_correct:,}/{separation.n_hallucinated:,}"
    return (name, separation.pooled.number(), separation.paired.number(), counts)


def _chair(chair: Mapping[str, ChairScores]) -> PlainTable:
    n_captions = chair["greedy"].n_captions
    return PlainTable(
        f"The captioner's hallucinations in {n_captions:,} captions each (CHAIR, clean mode)",
        ("captions", "CHAIR_s", "CHAIR_i", "recall", "words", "objects"),
        tuple(
            (
                kind,
                scores.chair_s.share(),
                scores.chair_i.share(),
                scores.recall.share(),
                f"{scores.words.value:.1f}",
                f"{scores.objects.value:.2f}",
            )
            for kind, scores in chair.items()
        ),
        "CHAIR_s: captions with a hallucinated object. CHAIR_i: mentions that are hallucinated. "
        "Recall: present objects that are named.",
    )


def _verdicts(verdicts: Mapping[str, Mapping[str, int]]) -> PlainTable:
    rows = [
        (
            f"{label}, n={sum(counts.values()):,}",
            *(f"{counts.get(name, 0) / max(sum(counts.values()), 1):.1%}" for name in _VERDICTS),
        )
        for label, counts in verdicts.items()
    ]
    return PlainTable(
        "What the profile makes of the captioner's mentions",
        ("mentions", *_VERDICTS),
        tuple(rows),
        "Supported earns a reward above 0, hallucinated one below 0, neutral none (FiSAO, Eq. 12).",
    )
