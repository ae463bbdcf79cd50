"""What a reproduction must show, and whether it does. Knows figures of rows; knows no files.

A target is checked on one seed's figures or on their means; what is said follows from the figures
alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sightline_trainers.reproduction.plan import BASE
from sightline_trainers.reproduction.results import Results, Row

Scores = Mapping[str, Mapping[str, float]]
"""Row -> figure -> value, as far as measured; seconds and reward_share are figures too."""
Outcome = Literal["pass", "miss", "not measured"]

LONGEST_S = 1200.0
LARGEST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a target is met, and the figures that say so."""

    met: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Target:
    """One claim.

    Attributes:
        text: the claim.
        check: finds out; raises KeyError where a figure is missing.
    """

    text: str
    check: Callable[[Scores], Finding]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, its outcome on the mean of the seeds, and how many of the judged seeds meet it."""

    text: str
    outcome: Outcome
    seen: str
    n_met: int
    n_seeds: int

    def __str__(self) -> str:
        """All of it in one line."""
        alone = f"; {self.n_met} of {self.n_seeds} seeds alone" if self.n_seeds > 1 else ""
        return f"{self.text}: {self.seen}{alone}" if self.seen else self.text


def judge(results: Sequence[Results]) -> list[Verdict]:
    """The verdicts on all targets of a method, from one or more seeds."""
    seeds = [scores_of(each) for each in results]
    return [_verdict(target, seeds) for target in TARGETS[results[0].method]]


def scores_of(results: Results) -> dict[str, dict[str, float]]:
    """The values of all rows that were measured."""
    return {row.name: _values(row) for row in results.rows}


def mean_scores(seeds: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """The means over the seeds that have a figure."""
    rows = dict.fromkeys(row for seed in seeds for row in seed)
    means: dict[str, dict[str, float]] = {}
    for row in rows:
        having = [seed[row] for seed in seeds if row in seed]
        figures = dict.fromkeys(figure for values in having for figure in values)
        means[row] = {
            figure: _mean([v[figure] for v in having if figure in v]) for figure in figures
        }
    return means


def margins(rows: Sequence[str]) -> list[str]:
    """The rows of FiSAO's sweep of fixed margins, the smallest first."""
    return sorted(
        (row for row in rows if row.startswith("margin-")),
        key=lambda row: float(row.removeprefix("margin-")),
    )


def iterations(method: str, rows: Sequence[str]) -> list[str]:
    """The base, then the rows of a method's iterations in order; its last has its plain name."""
    numbered = sorted(
        (row for row in rows if row.startswith(f"{method}-") and row[len(method) + 1 :].isdigit()),
        key=lambda row: int(row.rpartition("-")[2]),
    )
    return [BASE, *numbered, *(row for row in rows if row == method)]


def _verdict(target: Target, seeds: Sequence[Scores]) -> Verdict:
    """On the seeds that have all its rows alone: a mean over fewer seeds is not beside its like."""
    found = [(seed, finding) for seed in seeds if (finding := _found(target, seed))]
    if not found:
        return Verdict(target.text, "not measured", "", 0, 0)
    mean = target.check(mean_scores([seed for seed, _ in found]))
    n_met = sum(finding.met for _, finding in found)
    return Verdict(target.text, "pass" if mean.met else "miss", mean.seen, n_met, len(found))


def _found(target: Target, seed: Scores) -> Finding | None:
    """None where the seed lacks a row that the target compares."""
    try:
        return target.check(seed)
    except KeyError:
        return None


def _values(row: Row) -> dict[str, float]:
    values = {name: each.value for name, each in row.greedy.figures.items()}
    if row.sampled is not None:
        values |= {f"sampled_{n}": each.value for n, each in row.sampled.figures.items()}
    if row.cost is not None:
        values |= {"seconds": row.cost.seconds, "reward_share": row.cost.share}
    return {name: value for name, value in values.items() if value is not None}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _falls(row: str, least: float, scores: Scores) -> Finding:
    before, after = scores[BASE]["chair_s"], scores[row]["chair_s"]
    if before == 0:
        return Finding(False, "the base hallucinates nothing")
    fall = 1 - after / before
    way = "lower" if fall >= 0 else "higher"
    return Finding(fall >= least, f"{before:.1%} to {after:.1%}, {abs(fall):.0%} {way}")


def _rises(row: str, figure: str, points: float, scores: Scores) -> Finding:
    """At least so many points (shares) above the base; below 0: at most so many under it."""
    before, after = scores[BASE][figure], scores[row][figure]
    seen = f"{before:.1%} to {after:.1%}, {100 * (after - before):+.1f} points"
    return Finding(after - before >= points, seen)


def _keeps(row: str, figure: str, share: float, scores: Scores) -> Finding:
    before, after = scores[BASE][figure], scores[row][figure]
    change = after / before - 1
    return Finding(abs(change) <= share, f"{before:.1f} to {after:.1f}, {change:+.0%}")


def _orders(rows: Sequence[str], figure: str, sign: int, loose: bool, scores: Scores) -> Finding:
    """Each row better than the next; `sign` -1 where lower is better; `loose` allows equal."""
    values = [sign * scores[row][figure] for row in rows]
    steps = zip(values, values[1:], strict=False)
    met = all(better >= worse if loose else better > worse for better, worse in steps)
    return Finding(met, _listed(rows, figure, scores))


def _best(row: str, others: Sequence[str], figure: str, sign: int, scores: Scores) -> Finding:
    met = all(sign * scores[row][figure] > sign * scores[other][figure] for other in others)
    return Finding(met, _listed([row, *others], figure, scores))


def _listed(rows: Sequence[str], figure: str, scores: Scores) -> str:
    form = "{:.2f}" if figure == "cider" else "{:.1%}"
    return ", ".join(f"{row} {form.format(scores[row][figure])}" for row in rows)


def _half_of(row: str, other: str, scores: Scores) -> Finding:
    base = scores[BASE]["chair_s"]
    falls = [base - scores[each]["chair_s"] for each in (row, other)]
    seen = (
        f"{_listed([BASE, row, other], 'chair_s', scores)}; "
        f"recall {_listed([row, other], 'recall', scores)}"
    )
    return Finding(falls[0] > 0 and falls[1] < falls[0] / 2, seen)


def _inner_margin(scores: Scores) -> Finding:
    rows = margins(list(scores))
    if len(rows) < 3:
        raise KeyError("margin")
    values = [scores[row]["chair_s"] for row in rows]
    met = min(values[1:-1]) < min(values[0], values[-1])
    return Finding(met, _listed(rows, "chair_s", scores))


def _every_iteration(method: str, scores: Scores) -> Finding:
    rows = iterations(method, list(scores))
    if len(rows) < 4:
        raise KeyError(method)
    return _orders(rows[::-1], "chair_s", -1, False, scores)


def _at_most(row: str, figure: str, bound: float, form: str, scores: Scores) -> Finding:
    value = scores[row][figure]
    return Finding(value <= bound, form.format(value))


def _cheap(row: str) -> tuple[Target, Target]:
    seconds = partial(_at_most, row, "seconds", LONGEST_S, "{:.0f} s")
    share = partial(_at_most, row, "reward_share", LARGEST_SHARE, "{:.1%}")
    return (
        Target("trains in at most 20 minutes", seconds),
        Target("waits for rewards at most 5 % of the time", share),
    )


TARGETS: Mapping[str, tuple[Target, ...]] = {
    "fisao": (
        Target("CHAIR_s at least 27 % lower than the base's", partial(_falls, "fisao", 0.27)),
        Target("recall at most 2 points lower", partial(_rises, "fisao", "recall", -0.02)),
        Target("mean length within 15 %", partial(_keeps, "fisao", "words", 0.15)),
        Target(
            "sentence-level reward in the same loop takes away less than half as much",
            partial(_half_of, "fisao", "sentence"),
        ),
        Target(
            "caption-level reward in the same loop takes away less than half as much",
            partial(_half_of, "fisao", "response"),
        ),
        Target("the best fixed margin is neither the smallest nor the largest", _inner_margin),
        *_cheap("fisao"),
    ),
    "csr": (
        Target("CHAIR_s falls in every iteration", partial(_every_iteration, "csr")),
        Target("CHAIR_s at least 57 % lower than the base's", partial(_falls, "csr", 0.57)),
        Target(
            "CHAIR_s lower with both rewards than with either alone",
            partial(_best, "csr", ("only-rt", "only-ri"), "chair_s", -1),
        ),
        *_cheap("csr"),
    ),
    "aspo": (
        Target("CHAIR_s lower than DPO's", partial(_best, "aspo", ("dpo",), "chair_s", -1)),
        Target(
            "DPO's CHAIR_s not higher than the base's",
            partial(_orders, ("dpo", BASE), "chair_s", -1, True),
        ),
        Target(
            "CHAIR_s lower at the level of sentences than of tokens and responses",
            partial(_best, "aspo", ("level-token", "level-response"), "chair_s", -1),
        ),
        *_cheap("aspo"),
    ),
    "svp": (
        Target(
            "object recall at least 4.6 points higher, by POPE as in the paper",
            partial(_rises, "svp", "pope_recall", 0.046),
        ),
        Target(
            "object recall at least 4.6 points higher, in captions",
            partial(_rises, "svp", "recall", 0.046),
        ),
        Target("POPE F1 at least 1.6 points higher", partial(_rises, "svp", "pope_f1", 0.016)),
        Target("CHAIR_s not higher", partial(_orders, ("svp", BASE), "chair_s", -1, True)),
        Target(
            "CIDEr: grounding with scoring above grounding alone, above neither",
            partial(_orders, ("svp", "unscored", "ungrounded"), "cider", 1, False),
        ),
        *_cheap("svp"),
    ),
}
