"""A run as one self-contained HTML page. Knows a run's files and HTML; trains and measures nothing.

It is made of what the run has left in its folder, so that it can be made again at any time.
"""

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

import PIL.Image

from sightline_eval.marked_text import render_words
from sightline_eval.page import page_style
from sightline_trainers.checkpoint import write_whole
from sightline_trainers.configuration import build
from sightline_trainers.curves import draw_metric
from sightline_trainers.data import DataConfig, Row, load_image, read_rows
from sightline_trainers.examples import Example, Said, read_moments

_TITLES = {"aspo": "ASPO", "csr": "CSR", "dpo": "DPO", "fisao": "FiSAO", "svp": "SVP"}
_SIDE = 384
_KEY = (
    "<div class=key>"
    '<span><mark class="up" style="--a:.6">word</mark> rewarded</span>'
    '<span><mark class="flat" style="--a:0">word</mark> neutral</span>'
    '<span><mark class="down" style="--a:.6">word</mark> punished</span>'
    "<span>hover over a word for its scores</span></div>"
)


def write_report(folder: Path) -> Path:
    """Writes report.html into a run's folder, and gives its path.

    Raises:
        ValueError: it is no folder of a run.
        OSError: a file cannot be read or written.
    """
    path = folder / "report.html"
    write_whole(path, render_report(folder))
    return path


def render_report(folder: Path) -> str:
    """The page; it loads nothing from elsewhere, and all that models or people wrote is escaped.

    Raises:
        ValueError: it is no folder of a run.
        OSError: a file cannot be read.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no manifest.json: give the output_dir of a run") from None
    steps = _steps(folder / "metrics.jsonl")
    n_steps = f"{len(steps)} step{'' if len(steps) == 1 else 's'}"
    title = f"{_TITLES[manifest['method']]}: {n_steps} on {manifest['n_rows']} images"
    template = files("sightline_trainers").joinpath("report.html").read_text(encoding="utf-8")
    tiles, split = _time(folder, manifest, steps)
    return Template(template).substitute(
        title=escape(title),
        style=page_style(),
        version=escape(manifest["versions"].get("sightline", "")),
        folder=escape(folder.name),
        begun=escape(manifest["written"][:16].replace("T", " ")),
        lead=escape(_lead(manifest)),
        tiles=tiles,
        split=split,
        metrics="".join(_metrics(steps, manifest.get("metrics", {}))),
        examples="".join(_examples(folder, manifest)),
        provenance="".join(_provenance(manifest)),
    )


def _steps(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _lead(manifest: Mapping[str, Any]) -> str:
    config, service = manifest["config"], manifest["service"]
    models = ", ".join(f"{each['model']['id']} ({each['role']})" for each in service["models"])
    resumed = manifest["resumed_from"]
    later = f" Resumed after step {resumed}." if resumed is not None else ""
    n = manifest["processes"]
    where = f"{n} process{'es' if n > 1 else ''} on {manifest['device']}"
    policy = f"Policy {config['policy']['model']}, seed {manifest['seed']}, {where}"
    return f"{policy}; rewards from {models}.{later}"


def _time(
    folder: Path, manifest: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Tiles of the time that the run took, and a bar of how it was spent."""
    path = folder / "summary.json"
    if not path.is_file():
        return _tile("not finished", f"{len(steps)} steps are done"), ""
    summary = json.loads(path.read_text(encoding="utf-8"))
    seconds, waited = summary["seconds"], min(summary["reward_seconds"], summary["seconds"])
    since = manifest["resumed_from"] or 0
    built = sum(each.get("search_s", 0.0) for each in steps if each["step"] > since)
    sampling = min(max(built - waited, 0.0), seconds - waited)
    parts = {
        "training" if sampling else "sampling and training": seconds - waited - sampling,
        "sampling of pairs": sampling,
        "waiting for rewards": waited,
    }
    tiles = [
        _tile(_duration(seconds), "from beginning to end" if not since else f"since step {since}"),
        *(_tile(f"{100 * part / seconds:.1f} %", name) for name, part in parts.items() if part),
    ]
    bar = "".join(
        f'<i class=s{place} style="flex:{part / seconds:.5f}" title="{name}: {part:.1f} s"></i>'
        for place, (name, part) in enumerate(parts.items())
        if part
    )
    return "".join(tiles), f"<div class=split>{bar}</div>"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _tile(value: str, name: str) -> str:
    return f"<div class=tile><b>{escape(value)}</b>{escape(name)}</div>"


def _metrics(steps: Sequence[Mapping[str, Any]], formulas: Mapping[str, str]) -> Iterator[str]:
    names = [*formulas, *(name for each in steps for name in each if name != "step")]
    for name in dict.fromkeys(names):
        points = [(each["step"], each[name]) for each in steps if each.get(name) is not None]
        if points:
            last = f"{points[-1][1]:.4g}"
            formula = formulas.get(name, "")
            yield (
                f"<div class=panel><h3>{escape(name)} <small class=note>last {last}</small></h3>"
                f"{draw_metric(name, points)}<p class=note>{escape(formula)}</p></div>"
            )


def _examples(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """The examples, with the pictures where the data can still be read."""
    try:
        moments = read_moments(folder, manifest)
    except (OSError, ValueError) as error:
        yield f"<p class=note>The examples cannot be read: {escape(str(error))}</p>"
        return
    try:
        rows = read_rows(build(DataConfig, manifest["config"]["data"], origin="the manifest"))
    except (OSError, ValueError):
        rows = ()
    marked = any(said.spans for each in moments for one in each.examples for said in one.texts)
    for moment in moments:
        if moment.examples:
            cards = "".join(_card(each, rows) for each in moment.examples)
            yield f"<h2>{escape(moment.name)}, the first {len(moment.examples)}</h2>"
            yield f"{_KEY if marked else ''}{cards}"


def _card(example: Example, rows: Sequence[Row]) -> str:
    row = rows[example.row] if example.row < len(rows) else None
    texts = "".join(_said(each) for each in example.texts)
    question = "" if row is None else f"<p class=note>{escape(row.prompt)}</p>"
    return (
        f"<article class=card><figure>{_picture(row)}</figure>"
        f"<div><h3>{escape(example.origin)}</h3>{question}{texts}</div></article>"
    )


def _said(said: Said) -> str:
    words = render_words(said.text, ((span, None) for span in said.spans), end=len(said.text))
    note = f"<p class=note>{escape(said.note)}</p>" if said.note else ""
    return f"<h4>{escape(said.title)}</h4><p class=said>{words}</p>{note}"


def _picture(row: Row | None) -> str:
    if row is None:
        return ""
    try:
        image, _ = load_image(row)
    except ValueError:
        return "<p class=note>The picture cannot be read any more.</p>"
    image.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(row.origin, quote=True)}">'


def _provenance(manifest: Mapping[str, Any]) -> Iterator[str]:
    service = manifest["service"]
    for each in service["models"]:
        model, paths = each["model"], ", ".join(each["endpoints"])
        yield _table(f"Reward model: {each['role']}", {**model, "asked at": paths})
    versions = {**manifest["versions"], "reward service": service["version"]}
    listed = " &middot; ".join(escape(f"{name} {value}") for name, value in versions.items())
    yield f"<h4>Versions</h4><p class=note>{listed}</p>"
    settings = dict(_flat(manifest["config"]))
    yield f"<details><summary>All settings</summary>{_table('', settings)}</details>"
    known = ("metrics", "config", "service", "versions")
    others = {name: value for name, value in manifest.items() if name not in known}
    yield f"<details><summary>The rest of the manifest</summary>{_table('', others)}</details>"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(title: str, facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_value(value))}</td></tr>"
        for name, value in facts.items()
    )
    head = f"<h4>{escape(title)}</h4>" if title else ""
    return f'{head}<div class=scroll><table class="results facts">{rows}</table></div>'


def _value(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
