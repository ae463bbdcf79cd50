"""Lines and intervals as inline SVG. Knows numbers and SVG; knows no metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sightline_eval.bootstrap import Estimate

_WIDTH, _HEIGHT = 520.0, 230.0
_LEFT, _RIGHT, _TOP, _BASE = 46.0, 12.0, 12.0, 188.0
_LABELS, _ROW = 215.0, 26.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: its name in the legend, its CSS class, and (x, y) in the order of x.

    Where there are intervals, there is one per point.
    """

    label: str
    css: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values of one axis to pixels, with its ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def nice_ticks(low: float, high: float, *, most: int = 6) -> tuple[float, ...]:
    """Round numbers that enclose a range: the first is at most `low`, the last at least `high`."""
    span = high - low if high > low else max(abs(high), 1.0)
    rough = span / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return tuple(round(number * step, 10) for number in range(first, last + 1))


def draw_curves(
    curves: Sequence[Curve], *, across: str, up: str, x_ticks: Sequence[float] = ()
) -> str:
    """Lines over one pair of axes, with dots where points are few.

    Args:
        curves: drawn in order; those without points are left out.
        across: what x is.
        up: what y is.
        x_ticks: the places of the x axis that are named; round numbers where left out.
    """
    shown = [curve for curve in curves if curve.points]
    if not shown:
        return "<p class=note>There is nothing to draw.</p>"
    xs = [x for curve in shown for x, _ in curve.points]
    ys = [y for curve in shown for _, y in curve.points]
    ys += [end for curve in shown for pair in curve.intervals for end in pair]
    x_axis = _scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, tuple(x_ticks))
    y_axis = _scale(min(ys), max(ys), _BASE, _TOP, ())
    body = "".join(_curve(curve, x_axis, y_axis) for curve in shown)
    names = escape(", ".join(curve.label for curve in shown), quote=True)
    return (
        f'<svg class=chart viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role=img '
        f'aria-label="{escape(up, quote=True)} by {escape(across, quote=True)}: {names}">'
        f"{_axes(x_axis, y_axis, across)}{body}</svg>"
        f"<p class=legend>{escape(up)}: {''.join(_key(curve) for curve in shown)}</p>"
    )


def draw_intervals(rows: Sequence[tuple[str, str, Estimate]], *, across: str) -> str:
    """One line per row: its name, a dot at its value and a bar over its interval.

    Args:
        rows: name, CSS class and estimate, from top to bottom; those without a value are left out.
        across: what the values are.
    """
    shown = [(label, css, each) for label, css, each in rows if each.value is not None]
    if not shown:
        return "<p class=note>There is nothing to draw.</p>"
    ends = [
        end for _, _, each in shown for end in (each.value, each.low, each.high) if end is not None
    ]
    axis = _scale(min(ends), max(ends), _LABELS, _WIDTH - _RIGHT, ())
    height = _ROW * len(shown)
    lines = [_interval(place, *row, axis) for place, row in enumerate(shown)]
    ticks = "".join(
        f'<line class=grid x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:g}"/>'
        f'<text class=tick x="{x:.1f}" y="{height + 16:g}">{tick:g}</text>'
        for tick, x in ((tick, axis.place(tick)) for tick in axis.ticks)
    )
    middle = (axis.start + axis.end) / 2
    return (
        f'<svg class=chart viewBox="0 0 {_WIDTH:g} {height + 38:g}" role=img '
        f'aria-label="{escape(across, quote=True)} of each policy">{ticks}{"".join(lines)}'
        f'<text class=tick x="{middle:.1f}" y="{height + 33:g}">{escape(across)}</text></svg>'
    )


def _scale(low: float, high: float, start: float, end: float, ticks: tuple[float, ...]) -> Scale:
    if ticks:
        room = (max(ticks) - min(ticks)) * 0.04 or 1.0
        return Scale(min(ticks) - room, max(ticks) + room, start, end, ticks)
    found = nice_ticks(low, high)
    return Scale(found[0], found[-1], start, end, found)


def _axes(x_axis: Scale, y_axis: Scale, across: str) -> str:
    rows = "".join(
        f'<line class=grid x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y_axis.place(t):.1f}" '
        f'y2="{y_axis.place(t):.1f}"/>'
        f'<text class="tick side" x="{_LEFT - 6:g}" y="{y_axis.place(t) + 4:.1f}">{t:g}</text>'
        for t in y_axis.ticks
    )
    columns = "".join(
        f'<text class=tick x="{x_axis.place(t):.1f}" y="{_BASE + 16:g}">{t:g}</text>'
        for t in x_axis.ticks
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'{rows}{columns}<line class=axis x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" '
        f'y1="{_BASE:g}" y2="{_BASE:g}"/>'
        f'<text class=tick x="{middle:.1f}" y="{_HEIGHT - 6:g}">{escape(across)}</text>'
    )


def _curve(curve: Curve, x_axis: Scale, y_axis: Scale) -> str:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in curve.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path class="curve {curve.css}" d="M{path}"/>']
    for (x, _), (low, high) in zip(places, curve.intervals, strict=False):
        parts.append(
            f'<line class="whisker {curve.css}" x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{y_axis.place(low):.1f}" y2="{y_axis.place(high):.1f}"/>'
        )
    if len(places) <= 12:
        parts += [
            f'<circle class="dot {curve.css}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places
        ]
    return "".join(parts)


def _interval(place: int, label: str, css: str, estimate: Estimate, axis: Scale) -> str:
    y = _ROW * (place + 0.5)
    assert estimate.value is not None
    low = axis.place(estimate.value if estimate.low is None else estimate.low)
    high = axis.place(estimate.value if estimate.high is None else estimate.high)
    return (
        f'<text class="tick side" x="{_LABELS - 10:g}" y="{y + 4:g}">{escape(label)}</text>'
        f'<line class="whisker {css}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
        f'<circle class="dot {css}" cx="{axis.place(estimate.value):.1f}" cy="{y:g}" r="4.5"/>'
    )


def _key(curve: Curve) -> str:
    return f'<span><i class="swatch {curve.css}"></i>{escape(curve.label)}</span>'
