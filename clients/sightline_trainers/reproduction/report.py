"""A reproduction as one self-contained HTML page. Knows HTML; measures nothing."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from types import MappingProxyType

from sightline_eval.page import page_style
from sightline_trainers.reproduction.cards import Said, render_cards
from sightline_trainers.reproduction.columns import CAPTIONS, COSTS, POPE, Column
from sightline_trainers.reproduction.exam import Exam
from sightline_trainers.reproduction.panels import Evidence, draw_panels
from sightline_trainers.reproduction.papers import PRINTED, REMARKS, Printed
from sightline_trainers.reproduction.plan import BASE, PLANS
from sightline_trainers.reproduction.results import Measured, Results, Row
from sightline_trainers.reproduction.targets import Verdict, judge

SHOWN = 8

_DEFINITIONS = (
    "CHAIR_s: captions that name a category which is not in the scene. CHAIR_i: such categories "
    "among all that are named. Recall: categories of the scene that are named. Objects, words: per "
    "caption. Each category counts once per caption. POPE: random and adversarial questions "
    "together, answers read as its published scorer reads them. CIDEr: against five faithful "
    "captions of the scene, from 0 to 10 (papers print 100 times as much). In brackets: 95 % "
    "bootstrap intervals over scenes; changes are resampled by the same scenes as the base."
)


def render_report(evidence: Evidence, exam: Exam) -> str:
    """The page: claim, verdicts, tables, the paper's figures, the first scenes.

    It loads nothing from elsewhere; all text from captions and files is escaped.
    """
    results = evidence.results
    verdicts = judge([results])
    scenes = exam.scenes[:SHOWN]
    template = files("sightline_trainers.reproduction").joinpath("report.html")
    return Template(template.read_text(encoding="utf-8")).substitute(
        style=page_style(),
        title=escape(PLANS[results.method].title),
        version=escape(results.versions.get("sightline", "")),
        seed=results.seed,
        headline=escape(headline(results)),
        lead=escape(_lead(results, verdicts)),
        tiles="".join(_tiles(results)),
        verdicts="".join(map(_verdict, verdicts)),
        tables="".join(_tables(results)),
        remark=escape(REMARKS[results.method]),
        panels="".join(
            f"<div class=panel><h3>{escape(each.title)}</h3>"
            f"<p class=note>{escape(each.note)}</p>{each.drawing}</div>"
            for each in draw_panels(evidence)
        ),
        shown=len(scenes),
        cards=render_cards(scenes, _captions(evidence, len(scenes))),
        definitions=_DEFINITIONS,
        provenance=escape(_provenance(results)),
    )


def headline(results: Results) -> str:
    """What became of the captions that hallucinate, as it is."""
    title, row = PLANS[results.method].title, results.row(results.method)
    before = results.base.greedy.value("chair_s")
    if row is None or before is None:
        return f"{title} is not trained yet"
    after, change = row.greedy.value("chair_s"), row.greedy.change["chair_s"]
    if after is None or change.low is None or change.high is None:
        return f"{title} could not be compared with its base"
    pair = f"from {before:.1%} to {after:.1%} of {results.scenes} held-out captions"
    if change.high < 0:
        return f"{title} takes hallucinations down {pair}"
    if change.low > 0:
        return f"{title} takes hallucinations up here, {pair}"
    return f"{title} makes no clear change to hallucinations here: {pair}"


def _lead(results: Results, verdicts: Sequence[Verdict]) -> str:
    counts = [
        f"{sum(verdict.outcome == outcome for verdict in verdicts)} {words}"
        for outcome, words in (
            ("pass", "met"),
            ("miss", "missed"),
            ("not measured", "not measured"),
        )
    ]
    targets = f"Of {len(verdicts)} targets: {', '.join(counts)}."
    row = results.row(results.method)
    if row is None:
        return targets
    recall, objects = CAPTIONS[2], CAPTIONS[3]
    before, after = results.base.greedy, row.greedy
    return (
        f"Captions name {recall.number(before.value('recall'))} % of what is there before and "
        f"{recall.number(after.value('recall'))} % after, "
        f"{objects.number(before.value('objects'))} and {objects.number(after.value('objects'))} "
        f"objects each. {targets}"
    )


def _verdict(verdict: Verdict) -> str:
    classes = {"pass": "pass", "miss": "miss", "not measured": "open"}  # nosec B105 # outcomes
    css = classes[verdict.outcome]
    return f"<li><span class={css}>{verdict.outcome}</span><span>{escape(str(verdict))}</span></li>"


def _tiles(results: Results) -> Iterable[str]:
    row = results.row(results.method)
    if row is None:
        return
    for column in (*CAPTIONS[:5], POPE[0]):
        before, after = (each.greedy.value(column.figure) for each in (results.base, row))
        change = row.greedy.change.get(column.figure)
        yield (
            f"<div class=tile><b>{column.number(after)}</b>{escape(column.heading)}<br>"
            f"<small>base {column.number(before)}; change "
            f"{escape(column.signed(change) if change else '-')}</small></div>"
        )


def _tables(results: Results) -> Iterable[str]:
    figures = (*CAPTIONS, *POPE)
    yield _table(
        "Greedy captions and yes/no answers",
        [column.heading for column in figures] + ["minutes"],
        [
            (row, [_cell(row.greedy, column) for column in figures] + [_minutes(row)])
            for row in results.rows
        ],
        results,
        printed=PRINTED[results.method],
    )
    changed = [row for row in results.rows if row.name != BASE]
    yield _table(
        "Change against the base",
        [column.heading for column in figures],
        [(row, [_change(row.greedy, column) for column in figures]) for row in changed],
        results,
    )
    sampled = [(row, row.sampled) for row in results.rows if row.sampled is not None]
    yield _table(
        "Captions sampled at temperature 1",
        [column.heading for column in CAPTIONS],
        [(row, [_cell(kind, column) for column in CAPTIONS]) for row, kind in sampled],
        results,
    )


def _table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[tuple[Row, Sequence[str]]],
    results: Results,
    *,
    printed: Mapping[str, Printed] = MappingProxyType({}),
) -> str:
    """One line per row; what its paper has there stands below the row's name."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in ("policy", *headings))
    body = "".join(
        f"<tr{' class=own' if row.name == results.method else ''}><td>{escape(row.label)}"
        f"{_paper(printed.get(row.name))}</td>{''.join(cells)}</tr>"
        for row, cells in rows
    )
    return (
        f"<h4>{escape(title)}</h4><div class=scroll><table class=results>"
        f"<tr>{head}</tr>{body}</table></div>"
    )


def _cell(measured: Measured, column: Column) -> str:
    estimate = measured.figures.get(column.figure)
    if estimate is None:
        return "<td>-</td>"
    interval = escape(column.interval(estimate))
    return f"<td>{column.number(estimate.value)}<small>{interval}</small></td>"


def _change(measured: Measured, column: Column) -> str:
    change = measured.change.get(column.figure)
    if change is None:
        return "<td>-</td>"
    value, _, interval = column.signed(change).partition(" ")
    return f"<td>{escape(value)}<small>{escape(interval)}</small></td>"


def _minutes(row: Row) -> str:
    if row.cost is None:
        return "<td>-</td>"
    seconds, share = COSTS
    waiting = f"{share.number(row.cost.share)} % waiting"
    return f"<td>{seconds.number(row.cost.seconds)}<small>{waiting}</small></td>"


def _paper(printed: Printed | None) -> str:
    return "" if printed is None else f"<small class=paper>paper: {escape(str(printed))}</small>"


def _captions(evidence: Evidence, count: int) -> list[list[Said]]:
    shown = [
        (row.label, evidence.answers[row.name].greedy)
        for row in evidence.results.rows
        if row.name in (BASE, evidence.results.method) and row.name in evidence.answers
    ]
    return [[Said(label, captions[place]) for label, captions in shown] for place in range(count)]


def _provenance(results: Results) -> str:
    fields = results.recipe["fields"]
    over = ", ".join(f"{name} {value}" for name, value in fields.items()) or "nothing"
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Scenes 0 to {results.scenes - 1} of the {results.split} split; policies were trained on "
        f"the train split. Policy {results.policy['model']} (weights {results.policy['weights']}); "
        f"recipe {results.recipe['file']}, laid over it: {over}; seed {results.seed}. Trainings "
        f"took {results.seconds:.0f} s, of which {results.reward_seconds:.0f} s waiting for "
        f"rewards. {versions}."
    )
