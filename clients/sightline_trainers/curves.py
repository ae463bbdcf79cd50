"""One metric over a run's steps as inline SVG. Knows numbers and SVG; knows no metric."""

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 320.0, 130.0
_LEFT, _RIGHT, _TOP, _BASE = 48.0, 8.0, 8.0, 108.0
_FEW = 12
_SMOOTHED = 40
"""From so many points on a running mean is drawn over them."""


def draw_metric(name: str, points: Sequence[tuple[int, float]]) -> str:
    """A line through (step, value), with the range of both on the axes.

    Args:
        name: the metric's, for those who cannot see the line.
        points: in the order of steps, at least one.
    """
    steps = np.array([step for step, _ in points], dtype=np.float64)
    values = np.array([value for _, value in points], dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    lines = [_path(steps, values, low, high, "raw" if len(points) >= _SMOOTHED else "line")]
    if len(points) >= _SMOOTHED:
        width = len(points) // 20 | 1
        lines.append(_path(steps, running_mean(values, width), low, high, "line"))
    if len(points) <= _FEW:
        xs, ys = _places(steps, values, low, high)
        lines += [
            f'<circle class=dot cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
            for x, y in zip(xs, ys, strict=True)
        ]
    span = f"{low:.3g} to {high:.3g}" if low < high else f"{low:.3g}"
    return (
        f'<svg class=metric viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role=img '
        f'aria-label="{escape(name, quote=True)}: {span}, last {values[-1]:.3g}">'
        f"{_axes(steps, low, high)}{''.join(lines)}</svg>"
    )


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of `width` neighbours, an odd number; fewer at both ends."""
    sums = np.convolve(values, np.ones(width), mode="same")
    counts = np.convolve(np.ones(len(values)), np.ones(width), mode="same")
    return np.asarray(sums / counts)


def _path(steps: np.ndarray, values: np.ndarray, low: float, high: float, css: str) -> str:
    xs, ys = _places(steps, values, low, high)
    corners = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<path class={css} d="M{corners}"/>'


def _places(
    steps: np.ndarray, values: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    across = (steps - steps[0]) / max(steps[-1] - steps[0], 1.0)
    up = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _BASE - up * (_BASE - _TOP)


def _axes(steps: np.ndarray, low: float, high: float) -> str:
    marks = [(_BASE, low), (_TOP, high)] if high > low else [((_BASE + _TOP) / 2, low)]
    rows = "".join(
        f'<line class=grid x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y:g}" y2="{y:g}"/>'
        f'<text class=side x="{_LEFT - 5:g}" y="{y + 4:g}">{value:.3g}</text>'
        for y, value in marks
    )
    ends = (
        f'<text class=first x="{_LEFT:g}" y="{_BASE + 15:g}">step {steps[0]:g}</text>'
        f'<text class=side x="{_WIDTH - _RIGHT:g}" y="{_BASE + 15:g}">{steps[-1]:g}</text>'
    )
    return rows + ends
