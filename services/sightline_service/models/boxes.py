"""Boxes as detectors give them become fractions of the image. Knows arithmetic only."""

from collections.abc import Sequence

DETECTION_FLOOR = 0.05
"""Candidates that score less are not returned, whatever thresholds come later."""


def clamped_corners(
    box: Sequence[float], *, across: float = 1.0, down: float = 1.0
) -> tuple[float, float, float, float]:
    """Turns centre x, centre y, width, height into x1, y1, x2, y2 in [0, 1].

    Args:
        box: fractions of what the model saw.
        across: the share of the model's view, from the left, that the image takes.
        down: the same from the top.
    """
    x, y, width, height = box
    corners = (
        (x - width / 2) / across,
        (y - height / 2) / down,
        (x + width / 2) / across,
        (y + height / 2) / down,
    )
    x1, y1, x2, y2 = (min(max(corner, 0.0), 1.0) for corner in corners)
    return x1, y1, x2, y2
