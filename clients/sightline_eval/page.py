"""The demo's result as one self-contained HTML page. Knows HTML; measures nothing."""

from collections.abc import Iterable
from html import escape
from importlib.metadata import version
from importlib.resources import files
from string import Template

from sightline_eval.bootstrap import Estimate
from sightline_eval.demo import Demo
from sightline_eval.findings import LEVELS, Findings, hard_scores
from sightline_eval.gallery import render_gallery
from sightline_eval.histogram import Series, draw_histogram
from sightline_eval.separation import ImageScores
from sightline_eval.tables import PlainTable, tabulate

SHOWN = 12

_METHOD = (
    "Token score: 100 x cosine between the image and the bare object word. Sentence and caption "
    "scores: the same for the whole text. Intervals are 95 % bootstrap intervals over scenes. "
    "Whether an object is there comes from the scene itself, read with CHAIR's synonyms."
)


def render_page(demo: Demo) -> str:
    """The page: claim, key figures, distributions, the first scenes, every table.

    It loads nothing from elsewhere; all text from captions and services is escaped.
    """
    findings = demo.findings
    shown = demo.survey.scenes[:SHOWN]
    template = files("sightline_eval").joinpath("data/demo.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        version=escape(version("sightline")),
        count=demo.count,
        headline=escape(headline(findings)),
        lead=escape(_lead(findings)),
        tiles="".join(_tiles(findings)),
        panels="".join(_panels(demo)),
        fairness=escape(_fairness(findings)),
        shown=len(shown),
        gallery=render_gallery(shown),
        tables="".join(_table(table) for table in tabulate(findings)),
        method=_METHOD,
        provenance=escape(_provenance(demo)),
    )


def page_style() -> str:
    """The style sheet of Sightline's pages, for further ones to share."""
    page = files("sightline_eval").joinpath("data/demo.html").read_text(encoding="utf-8")
    return page.partition("<style>")[2].partition("</style>")[0].strip()


def headline(findings: Findings) -> str:
    """What the comparison of a word's reward with a whole caption's score came to, as it is."""
    token, caption = findings.hard["token"].pooled.value, findings.hard["caption"].pooled.value
    gap = findings.gap["pooled"]
    if token is None or caption is None or gap.low is None or gap.high is None:
        return "Too few scenes to compare a word's reward with a caption's score"
    pair = f"(AUROC {token:.2f} against {caption:.2f})"
    if gap.low > 0:
        return f"A word's reward tells hallucinations better than a caption's score does {pair}"
    if gap.high < 0:
        return f"Here a caption's score tells hallucinations better than a word's reward {pair}"
    return f"A word's reward and a caption's score tell hallucinations equally well here {pair}"


def _lead(findings: Findings) -> str:
    own = findings.own["greedy"]
    token, sentence, caption = (_short(own[level].pooled) for level in LEVELS)
    blind = _short(findings.hard["prior token"].pooled)
    return (
        "Tested with hard negatives: objects that are not in the picture but usually are in such "
        f"scenes. Their frequency alone, without the image: {blind}. "
        f"On what the captioner itself says: word {token}, its sentence {sentence}, its whole "
        f"caption {caption}."
    )


def _tiles(findings: Findings) -> Iterable[str]:
    token, sentence, caption = (findings.hard[level].pooled for level in LEVELS)
    own = findings.own["greedy"]["token"]
    chair, boxes = findings.chair["greedy"], findings.boxes
    yield _tile(
        token,
        "AUROC of single words",
        "present against likely but absent objects",
        lead=True,
    )
    yield _tile(
        caption,
        "AUROC of whole captions",
        f"one word swapped; its sentence alone {_short(sentence)}",
    )
    yield _tile(
        own.pooled,
        "AUROC on the captioner's own words",
        f"{own.n_hallucinated} hallucinated, {own.n_correct} right",
    )
    yield _tile(
        chair.chair_s,
        "of captions hallucinate",
        f"CHAIR_s, greedy; they name {chair.recall.value or 0:.0%} of what is there",
        percent=True,
    )
    yield _tile(
        boxes.recall,
        "of objects found with a box",
        f"IoU 0.5; precision {boxes.precision.value or 0:.0%}",
        percent=True,
    )


def _tile(
    estimate: Estimate, title: str, note: str, *, lead: bool = False, percent: bool = False
) -> str:
    value = _short(estimate)
    if percent and estimate.value is not None:
        value = f"{estimate.value:.0%}"
    css = "tile lead-tile" if lead else "tile"
    return (
        f"<div class='{css}'><b>{value}</b>{escape(title)}<br><small>{escape(note)}</small></div>"
    )


def _short(estimate: Estimate) -> str:
    return "n/a" if estimate.value is None else f"{estimate.value:.2f}"


def _panels(demo: Demo) -> Iterable[str]:
    titles = (
        ("token", "A single word", "Present objects, and absent ones that the scene makes likely."),
        ("caption", "A whole caption", "Faithful captions, and the same with one word swapped."),
    )
    for level, title, text in titles:
        images = hard_scores(demo.survey.scenes, level)
        separation = demo.findings.hard[level]
        axis = f"{level} score ({demo.survey.scale})"
        picture = draw_histogram(*_series(images), axis=axis)
        yield (
            f"<div class=panel><h3>{title}: AUROC {escape(separation.pooled.number())}</h3>"
            f"<p class=note>{text}</p>{picture}</div>"
        )


def _series(images: Iterable[ImageScores]) -> tuple[Series, Series]:
    scores = list(images)
    return (
        Series("right", "up", [score for image in scores for score in image.correct]),
        Series("hallucinated", "down", [score for image in scores for score in image.hallucinated]),
    )


def _fairness(findings: Findings) -> str:
    token, caption = findings.hard["token"].paired.value, findings.hard["caption"].paired.value
    if token is None or caption is None:
        return ""
    return (
        "AUROC 1 is perfect, 0.5 is chance; it asks for one threshold that serves every image. "
        f"Compared within one image, the right one scores higher in {token:.0%} of the pairs of "
        f"words and in {caption:.0%} of the pairs of captions. A word's reward also says which "
        "object is wrong. How large the gap is depends on how a verifier was trained; this one was "
        "trained to be good at both."
    )


def _table(table: PlainTable) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f"<h4>{escape(table.title)}</h4><div class=scroll><table class=results>"
        f"<tr>{head}</tr>{body}</table></div><p class=note>{escape(table.note)}</p>"
    )


def _provenance(demo: Demo) -> str:
    similarity, detector = demo.survey.similarity, demo.survey.detector
    return (
        f"Scenes 0 to {demo.count - 1} of the test split, seed {demo.seed}; no model was trained "
        f"on them. Similarity model {similarity.id} (revision {similarity.revision[:12]}), "
        f"detector {detector.id} (revision {detector.revision[:12]}), "
        f"profile {demo.survey.profile or 'none'}."
    )
