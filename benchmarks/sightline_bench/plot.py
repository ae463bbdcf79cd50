"""One picture of a run: pairs per second, contender by contender. Knows matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sightline_bench.plan import CASES
from sightline_bench.report import Results
from sightline_bench.summary import Window, median_of

_SHOWN = ("vit-b-32, 1 text", "vit-b-32, 20 texts", "tiny, 1 text", "tiny, 20 texts")
_ORDER = ("limit", "decode + forward", "sightline", "infinity", "litserve", "fastapi")


def write_plot(results: Results, path: Path) -> None:
    """Writes bars for the cases with everybody, as far as they were run."""
    cases = [case.name for case in CASES if case.name in _SHOWN and case.name in results.windows]
    if not cases:
        return
    figure = Figure(figsize=(4 * len(cases), 3.4), layout="tight")
    axes = figure.subplots(1, len(cases), squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        _bars(axis, case, results.windows[case])
    figure.savefig(path, dpi=110)


def _bars(axis: Axes, case: str, windows: Mapping[str, Sequence[Window]]) -> None:
    names = [name for name in _ORDER if median_of(windows.get(name, ()), "rate")]
    rates = [median_of(windows[name], "rate") or 0.0 for name in names]
    colours = ["#c44e52" if name == "sightline" else "#8da0b3" for name in names]
    bars = axis.barh(names[::-1], rates[::-1], color=colours[::-1])
    axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.set_title(case)
    axis.set_xlabel("pairs/s")
    axis.margins(x=0.2)
    axis.spines[["top", "right"]].set_visible(False)
