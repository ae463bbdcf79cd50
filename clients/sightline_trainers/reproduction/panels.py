"""The papers' figures, drawn from what the runs left behind. Knows run folders; trains nothing."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline_eval.bootstrap import Estimate, estimate
from sightline_eval.histogram import Series, draw_histogram
from sightline_trainers.candidates import CandidateFiles
from sightline_trainers.checkpoint import Process
from sightline_trainers.journal import Journal
from sightline_trainers.reproduction.charts import Curve, draw_curves, draw_intervals
from sightline_trainers.reproduction.exam import Answers
from sightline_trainers.reproduction.plan import BASE
from sightline_trainers.reproduction.results import Results, Row
from sightline_trainers.reproduction.targets import iterations, margins
from sightline_trainers.reproduction.training import metrics_of

_WINDOW = 5


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of the page: title, what it shows, and the drawing as HTML."""

    title: str
    note: str
    drawing: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What panels are drawn from.

    Attributes:
        results: the measured rows.
        folder: of the reproduction; each variant's run is a folder in it.
        answers: row -> what its policy said.
    """

    results: Results
    folder: Path
    answers: Mapping[str, Answers]


def draw_panels(evidence: Evidence) -> list[Panel]:
    """The figures of all methods, then those of this method's paper, as far as runs are there."""
    return [*_rows(evidence), *_OF_METHOD[evidence.results.method](evidence)]


def _rows(evidence: Evidence) -> Iterator[Panel]:
    for figure, title, note in (
        ("chair_s", "Captions that hallucinate", "CHAIR_s of greedy captions; lower is better."),
        ("recall", "Objects that are named", "Recall of greedy captions; higher is better."),
    ):
        rows = [
            (row.label, _css(row, evidence.results), _per_cent(row.greedy.figures[figure]))
            for row in evidence.results.rows
        ]
        yield Panel(title, note, draw_intervals(rows, across="per cent, with 95 % interval"))


def _css(row: Row, results: Results) -> str:
    return {BASE: "base", results.method: "up"}.get(row.name, "plain")


def _per_cent(each: Estimate) -> Estimate:
    scaled = [None if value is None else 100 * value for value in (each.value, each.low, each.high)]
    return Estimate(*scaled)


def _fisao(evidence: Evidence) -> Iterator[Panel]:
    before, after = evidence.answers.get(BASE), evidence.answers.get("fisao")
    if before and after and before.scores and after.scores:
        series = [
            Series(label, css, [score for scene in said.scores for score in scene])
            for label, css, said in (("before", "down", before), ("after", "up", after))
        ]
        yield Panel(
            "Rewards of named objects before and after training",
            f"Objects in greedy captions of held-out scenes: {len(series[0].values)} before (red), "
            f"{len(series[1].values)} after (green). The paper's Figure 4.",
            draw_histogram(*series, axis="100 x cosine between image and object word"),
        )
    rows = [row for row in map(evidence.results.row, margins(_names(evidence))) if row]
    if rows:
        curve = _by_number([float(row.fields["reward.margin"]) for row in rows], rows, "down")
        yield Panel(
            "The margin",
            "FiSAO with fixed margins on the scale of 100 x cosine. The paper's Table 5.",
            draw_curves([curve], across="margin", up="CHAIR_s %"),
        )
    yield from _training(evidence, "fisao", ("supported", "up"), ("hallucinated", "down"))


def _csr(evidence: Evidence) -> Iterator[Panel]:
    rows = [row for row in map(evidence.results.row, iterations("csr", _names(evidence))) if row]
    if len(rows) > 1:
        yield Panel(
            "Captions that hallucinate, by iteration",
            "Iteration 0 is the base. The paper's Table 7.",
            draw_curves(
                [_by_number(range(len(rows)), rows, "down")],
                across="iteration",
                up="CHAIR_s %",
                x_ticks=range(len(rows)),
            ),
        )
    pairs = list(_pairs(evidence.folder / "csr"))
    if pairs:
        numbers = range(1, len(pairs) + 1)
        for key, title, what in (
            ("image", "Image relevance of chosen and rejected responses", "mean R_I of sentences"),
            ("value", "Calibrated rewards of chosen and rejected responses", "R(y)"),
        ):
            curves = [
                _means(label, css, [[each[side][key] for each in group] for group in pairs])
                for label, css, side in (
                    ("chosen", "up", "chosen"),
                    ("rejected", "down", "rejected"),
                )
            ]
            yield Panel(
                title,
                "The pairs that each iteration learns from, with 95 % intervals. The paper's "
                "Figure 3.",
                draw_curves(curves, across="iteration", up=what, x_ticks=numbers),
            )


def _aspo(evidence: Evidence) -> Iterator[Panel]:
    for metric, title, note in (
        ("margin", "Margin between chosen and rejected", "Mean over a step's pairs of M*."),
        ("accuracy", "Pairs with a margin above 0", "Share of a step's pairs."),
    ):
        curves = [
            _smoothed(evidence.folder / name, metric, label, css)
            for name, label, css in (("aspo", "ASPO", "up"), ("dpo", "DPO", "down"))
        ]
        yield Panel(title, note, draw_curves(curves, across="step", up=metric))
    yield from _weights(evidence)


def _weights(evidence: Evidence) -> Iterator[Panel]:
    path = evidence.folder / "aspo" / "weights.json"
    if not path.is_file():
        return
    answers: list[list[tuple[float, bool]]] = json.loads(path.read_text(encoding="utf-8"))
    series = [
        Series(
            label,
            css,
            [100 * weight for each in answers for weight, is_true in each if is_true is kind],
        )
        for label, css, kind in (("hallucinating", "down", False), ("true", "up", True))
    ]
    yield Panel(
        "Weights of sentences",
        f"Of chosen answers, by the trained policy: {len(series[1].values)} sentences that name "
        f"only what is there (green), {len(series[0].values)} that hallucinate (red).",
        draw_histogram(*series, axis="weight (Eq. 10) x 100"),
    )


def _svp(evidence: Evidence) -> Iterator[Panel]:
    folder = evidence.folder / "svp" / "candidates"
    if folder.is_dir():
        candidates = [
            each
            for each in CandidateFiles(folder, Process(0, 1)).all(0)
            if each.kind == "description"
        ]
        chosen = [each.S for each in candidates if each.outcome == "chosen"]
        others = [each.S for each in candidates if each.outcome == "rank"]
        yield Panel(
            "Scores of guided samples",
            f"S(q, p) of the {len(chosen)} chosen (green) and the {len(others)} outranked (red) "
            "candidates of the first iteration, in nats.",
            draw_histogram(
                Series("outranked", "down", others), Series("chosen", "up", chosen), axis="S, nats"
            ),
        )
    yield from _training(evidence, "svp", ("loss", "up"))


def _training(evidence: Evidence, name: str, *shown: tuple[str, str]) -> Iterator[Panel]:
    curves = [_smoothed(evidence.folder / name, metric, metric, css) for metric, css in shown]
    if any(curve.points for curve in curves):
        yield Panel(
            "Training",
            f"Means over {_WINDOW} steps.",
            draw_curves(curves, across="step", up="per response" if name == "fisao" else "loss"),
        )


def _names(evidence: Evidence) -> list[str]:
    return [row.name for row in evidence.results.rows]


def _by_number(numbers: Sequence[float], rows: Sequence[Row], css: str) -> Curve:
    estimates = [_per_cent(row.greedy.figures["chair_s"]) for row in rows]
    points = [(number, each.value or 0.0) for number, each in zip(numbers, estimates, strict=True)]
    ends = [(each.low or 0.0, each.high or 0.0) for each in estimates]
    return Curve("with 95 % interval", css, points, ends)


def _means(label: str, css: str, groups: Sequence[Sequence[float]]) -> Curve:
    estimates = [estimate(group, lambda some: float(np.mean(some))) for group in groups]
    points = [(place, each.value or 0.0) for place, each in enumerate(estimates, start=1)]
    return Curve(label, css, points, [(each.low or 0.0, each.high or 0.0) for each in estimates])


def _pairs(folder: Path) -> Iterator[list[dict[str, dict[str, float]]]]:
    """The pairs of each iteration of a CSR run."""
    number = 1
    while (journal := folder / f"iteration-{number}" / "pairs-0.jsonl").is_file():
        pairs = [each for each in Journal(journal).read() if each["dropped"] is None]
        if pairs:
            yield pairs
        number += 1


def _smoothed(folder: Path, metric: str, label: str, css: str) -> Curve:
    """A metric of a run, averaged over windows of steps."""
    found = [
        (line["step"], line[metric]) for line in metrics_of(folder) if line.get(metric) is not None
    ]
    groups = [found[start : start + _WINDOW] for start in range(0, len(found), _WINDOW)]
    points = [
        (float(np.mean([x for x, _ in group])), float(np.mean([y for _, y in group])))
        for group in groups
    ]
    return Curve(label, css, points)


_OF_METHOD: Mapping[str, Callable[[Evidence], Iterator[Panel]]] = {
    "fisao": _fisao,
    "csr": _csr,
    "aspo": _aspo,
    "svp": _svp,
}
