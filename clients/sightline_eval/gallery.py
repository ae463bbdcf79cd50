"""Scenes as HTML cards: picture, captions, hard negative. Knows HTML; measures nothing."""

import base64
from collections.abc import Sequence
from html import escape

from sightline_eval.detection import Box, LabelledBox
from sightline_eval.findings import true_boxes
from sightline_eval.marked_text import render_caption
from sightline_eval.survey import ScoredText, SurveyedScene
from sightline_proto import SpanReward

_SIDE = 192


def render_gallery(scenes: Sequence[SurveyedScene]) -> str:
    """One card per scene; sentence bars share one scale over all of them."""
    scores = [
        sentence.score
        for scene in scenes
        for text in (scene.greedy, scene.sampled)
        for sentence in text.sentences
    ]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    return "".join(_card(scene, low, high) for scene in scenes)


def _card(scene: SurveyedScene, low: float, high: float) -> str:
    kind = escape(scene.captioned.scene.layout.kind)
    return (
        f"<article class=card><div>{_picture(scene)}{_swap(scene)}</div><div>"
        f"<h3>Scene {scene.captioned.scene.index}: {kind}</h3>"
        f"{_caption('Captioner, greedy', scene.greedy, scene.truth, low, high)}"
        f"{_caption('Captioner, sampled', scene.sampled, scene.truth, low, high)}"
        "</div></article>"
    )


def _caption(title: str, text: ScoredText, truth: frozenset[str], low: float, high: float) -> str:
    wrong = [
        span.text for span, label in zip(text.spans, text.labels, strict=True) if label is False
    ]
    named = {span.entity for span in text.spans}
    unnamed = sorted(truth - named)
    notes = [
        f"<span class=bad>hallucinated: {escape(', '.join(wrong))}</span>" if wrong else "",
        f"<span>left out: {escape(', '.join(unnamed))}</span>" if unnamed else "",
    ]
    note = " &middot; ".join(part for part in notes if part)
    return (
        f"<h4>{escape(title)}</h4>{render_caption(text, low=low, high=high)}"
        f"<p class=note>{note or 'names all that is there, and nothing else'}</p>"
    )


def _swap(scene: SurveyedScene) -> str:
    """The hard negative: what replacing one object does to its token and to its caption."""
    removed = _score_of(scene.faithful, scene.swap.removed)
    inserted = _score_of(scene.swapped, scene.swap.inserted)
    if removed is None or inserted is None:
        return ""
    return (
        "<h4>Hard negative</h4><table class=swap>"
        f"<tr><th></th><th class=up>{escape(scene.swap.removed)}</th>"
        f"<th class=down>{escape(scene.swap.inserted)}</th><th>change</th></tr>"
        f"{_change('token score', removed.score, inserted.score)}"
        f"{_change('caption score', scene.faithful.score, scene.swapped.score)}</table>"
    )


def _change(name: str, before: float, after: float) -> str:
    return (
        f"<tr><td>{name}</td><td>{before:.1f}</td><td>{after:.1f}</td>"
        f"<td>{after - before:+.1f}</td></tr>"
    )


def _score_of(text: ScoredText, name: str) -> SpanReward | None:
    return next((span for span in text.spans if span.entity == name), None)


def _picture(scene: SurveyedScene) -> str:
    data = base64.b64encode(scene.captioned.png).decode("ascii")
    found = [LabelledBox(f"{d.phrase} {d.score:.2f}", d.box) for d in scene.detections]
    boxes = [_box(box, "true") for box in true_boxes(scene)] + [_box(b, "found") for b in found]
    labels = [_label(box) for box in found]
    names = escape(", ".join(sorted(scene.truth)), quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{data}" width=384 height=384 '
        f'alt="A scene with {names}">'
        f'<svg viewBox="0 0 {_SIDE} {_SIDE}">{"".join(boxes + labels)}</svg></figure>'
    )


def _box(labelled: LabelledBox, css: str) -> str:
    x1, y1, x2, y2 = _scaled(labelled.box)
    return (
        f'<rect class={css} x="{x1:.1f}" y="{y1:.1f}" '
        f'width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"/>'
    )


def _label(labelled: LabelledBox) -> str:
    x1, y1, _, _ = _scaled(labelled.box)
    width = 3.6 * len(labelled.label) + 4
    x, y = min(x1, _SIDE - width), max(y1 - 9, 0)
    return (
        f'<g transform="translate({x:.1f} {y:.1f})">'
        f'<rect class=tag width="{width:.1f}" height="9"/>'
        f'<text x="2" y="6.8">{escape(labelled.label)}</text></g>'
    )


def _scaled(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return (x1 * _SIDE, y1 * _SIDE, x2 * _SIDE, y2 * _SIDE)
