"""From times to numbers: rates, percentiles, medians, ratios. Pure; knows no processes."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sightline_bench.client import Taken
from sightline_bench.plan import Claim, Quantity


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of one contender gave.

    Attributes:
        rate: pairs (image and text) per second.
        p50, p95, p99: seconds from asking to the last reply of a unit; None without HTTP.
        p50_short: the same, of units with short texts in small images only.
        forwards: images and texts that the model saw per unit asked for.
        hit_rate: share of the look-ups of embeddings that found one.
        cores: CPU seconds per second of the server's processes.
        memory_bytes: resident at the end, shared pages counted once.
        failures: the first replies that were no success.
    """

    rate: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    p50_short: float | None = None
    forwards: float | None = None
    hit_rate: float | None = None
    cores: float | None = None
    memory_bytes: int | None = None
    failures: tuple[str, ...] = ()

    def with_usage(self, *, cores: float, memory_bytes: int) -> "Window":
        """Returns it with what the server used."""
        return replace(self, cores=cores, memory_bytes=memory_bytes)


def of_limit(units: int, seconds: float, *, texts: int) -> Window:
    """Returns a window of in-process work; a batch of one has a latency too."""
    return Window(rate=units * texts / seconds, p50=seconds / units)


def of_taken(
    taken: Sequence[Taken], *, texts: int, forwards: float = 0.0, hit_rate: float | None = None
) -> Window:
    """Returns a window from what the generator's processes saw.

    The rate of a connection is its whole cycles by the time they took, which does not depend on
    where in a batch the window begins or ends.
    """
    latencies = sorted(each for part in taken for each in part.latencies)
    short = [
        seconds
        for part in taken
        for seconds, is_long in zip(part.latencies, part.was_long, strict=True)
        if not is_long
    ]
    rates = [
        units / span for part in taken for units, span in zip(part.units, part.spans, strict=True)
    ]
    failures = [failure for part in taken for failure in part.failures]
    asked = sum(part.asked for part in taken) or 1
    return Window(
        rate=sum(rates) * texts,
        p50=percentile(latencies, 0.50),
        p95=percentile(latencies, 0.95),
        p99=percentile(latencies, 0.99),
        p50_short=percentile(sorted(short), 0.50),
        forwards=forwards / asked,
        hit_rate=hit_rate,
        failures=tuple(failures[:3]),
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Returns the smallest value that at least `share` of all do not exceed; None of none."""
    if not ordered:
        return None
    rank = max(0, -int(-share * len(ordered) // 1) - 1)
    return ordered[min(rank, len(ordered) - 1)]


def value_of(window: Window, quantity: Quantity) -> float | None:
    """Returns one number of a window."""
    found = asdict(window)[quantity]
    return None if found is None else float(found)


def median_of(windows: Sequence[Window], quantity: Quantity) -> float | None:
    """Returns the median over repeats."""
    values = [value for each in windows if (value := value_of(each, quantity)) is not None]
    return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a claim: the median, least and greatest ratio over repeats; None unmeasured."""

    claim: Claim
    ratio: float | None
    least: float | None = None
    greatest: float | None = None
    repeats: int = 0

    @property
    def reached(self) -> bool | None:
        """Whether the median meets the bound; None where nothing was measured."""
        if self.ratio is None:
            return None
        return (
            self.ratio <= self.claim.bound
            if self.claim.at_most
            else (self.ratio >= self.claim.bound)
        )


def judge(claim: Claim, windows: Mapping[str, Sequence[Window]]) -> Verdict:
    """Judges one claim on its case's windows, repeat by repeat: pairs stood next to each other."""
    pairs = zip(windows.get(claim.of, ()), windows.get(claim.against, ()), strict=False)
    ratios: list[float] = []
    for of, against in pairs:
        ratio = _ratio(claim, of, against)
        if ratio is not None:
            ratios.append(ratio)
    if not ratios:
        return Verdict(claim, None)
    return Verdict(claim, statistics.median(ratios), min(ratios), max(ratios), len(ratios))


def _ratio(claim: Claim, of: Window, against: Window) -> float | None:
    above = value_of(of, claim.quantity)
    if claim.quantity == "forwards":
        return None if above is None else above / 2
    below = value_of(against, claim.against_quantity or claim.quantity)
    if above is None or not below:
        return None
    return (above - claim.plus) / below
