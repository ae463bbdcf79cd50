"""Two overlaid histograms as inline SVG. Knows numbers and SVG; knows no metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _BASE = 520, 210, 180
_BINS = 28


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one class, its name in the legend, and its CSS class."""

    label: str
    css: str
    values: Sequence[float]


def draw_histogram(left: Series, right: Series, *, axis: str) -> str:
    """Both distributions over one axis; each has area 1, so that unequal counts compare.

    Args:
        left: drawn first.
        right: drawn over it.
        axis: what the values are.
    """
    everything = np.array([*left.values, *right.values], dtype=np.float64)
    if everything.size == 0:
        return "<p class=note>There is nothing to draw.</p>"
    low, high = np.floor(everything.min()), np.ceil(everything.max())
    edges = np.linspace(low, max(high, low + 1), _BINS + 1)
    heights = [np.histogram(s.values, edges)[0] / max(len(s.values), 1) for s in (left, right)]
    top = max(float(max(counts.max() for counts in heights)), 1e-9)
    shapes = [
        f'<path class="area {series.css}" d="{_steps(counts / top)}"/>'
        f"{_mean_line(series, float(edges[0]), float(edges[-1]))}"
        for series, counts in zip((left, right), heights, strict=True)
    ]
    return (
        f'<svg class=histogram viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img '
        f'aria-label="{escape(axis)}: {escape(left.label)}, {escape(right.label)}">'
        f"{''.join(shapes)}{_axis(float(edges[0]), float(edges[-1]), axis)}</svg>"
    )


def _steps(heights: np.ndarray) -> str:
    step = _WIDTH / len(heights)
    tops = [_BASE - 160 * float(height) for height in heights]
    parts = [f"M0 {_BASE}"]
    for index, y in enumerate(tops):
        parts.append(f"L{index * step:.1f} {y:.1f}H{(index + 1) * step:.1f}")
    return "".join(parts) + f"L{_WIDTH} {_BASE}Z"


def _mean_line(series: Series, low: float, high: float) -> str:
    if not series.values:
        return ""
    x = _WIDTH * (float(np.mean(series.values)) - low) / (high - low)
    return f'<line class="mean {series.css}" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{_BASE}"/>'


def _axis(low: float, high: float, label: str) -> str:
    ticks = [value for value in range(-100, 101, 10) if low <= value <= high]
    places = [(tick, _WIDTH * (tick - low) / (high - low)) for tick in ticks]
    marks = "".join(
        f'<text class=tick x="{x:.1f}" y="{_BASE + 14}">{tick}</text>' for tick, x in places
    )
    return (
        f'<line class=axis x1="0" x2="{_WIDTH}" y1="{_BASE}" y2="{_BASE}"/>{marks}'
        f'<text class=tick x="{_WIDTH / 2}" y="{_HEIGHT - 2}">{escape(label)}</text>'
    )
