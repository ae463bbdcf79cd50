"""Rows of different lengths as rectangles with little padding. Pure; knows no tensors."""

from collections.abc import Sequence


def rectangles(lengths: Sequence[int], *, overhead: int) -> list[list[int]]:
    """Splits rows so that all of them, padded to the longest of their rectangle, cost least.

    A rectangle costs its rows times its longest, and `overhead` besides.

    Returns:
        The places of each rectangle's rows; every place occurs once.
    """
    if max(lengths) * len(lengths) - sum(lengths) <= overhead:
        return [list(range(len(lengths)))]
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    least, begins = [0], [0]  # cost of the first n rows in order, and where their last cut is
    for end, place in enumerate(order, start=1):
        cost, begin = min(
            (least[begin] + (end - begin) * lengths[place] + overhead, begin)
            for begin in range(end)
        )
        least.append(cost)
        begins.append(begin)
    parts: list[list[int]] = []
    end = len(order)
    while end:
        parts.append(order[begins[end] : end])
        end = begins[end]
    return parts
