"""Score distributions as pictures in files. Knows matplotlib; measures nothing."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sightline_eval.calibration import Calibration

_CORRECT, _HALLUCINATED, _INK = "#1a7f5a", "#c2413b", "#3c4149"
_BINS = 50


def draw_calibration(calibration: Calibration, path: Path) -> None:
    """Draws both histograms with their means (solid) and the thresholds (dashed), as PNG or SVG."""
    profile, scores = calibration.profile, calibration.scores
    figure = Figure(figsize=(8, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    bins = np.linspace(profile.s_min, profile.s_max, _BINS + 1).tolist()
    series = (
        ("correct", scores.correct, profile.mu_gt, profile.upper, _CORRECT),
        ("hallucinated", scores.hallucinated, profile.mu_hal, profile.lower, _HALLUCINATED),
    )
    for label, values, mean, threshold, colour in series:
        legend = f"{label} (n = {len(values):,}, mean {mean:.1f})"
        axes.hist(values, bins, density=True, color=colour, alpha=0.55, label=legend)
        axes.axvline(mean, color=colour, linewidth=1.6)
        axes.axvline(threshold, color=colour, linewidth=1.2, linestyle="--")
    axes.set_title(
        f"Token scores of {profile.model_id}: AUROC {calibration.auroc:.3f}, "
        f"margin {profile.margin:.2f}",
        loc="left",
        color=_INK,
    )
    axes.set_xlabel(f"score ({profile.scale}); dashed: thresholds of a reward other than 0")
    axes.set_ylabel("density of object mentions")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
