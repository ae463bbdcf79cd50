"""The outcome of a reproduction as values and as results.json. Knows JSON; measures nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline_eval.bootstrap import Estimate
from sightline_trainers.checkpoint import write_whole
from sightline_trainers.reproduction.plan import BASE
from sightline_trainers.reproduction.training import Cost

Figures = Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of captions of one kind, and their changes against those of the base."""

    figures: Figures
    change: Figures = field(default_factory=dict[str, Estimate])

    def value(self, name: str) -> float | None:
        """A figure's value; None where it was not measured."""
        estimate = self.figures.get(name)
        return None if estimate is None else estimate.value


@dataclass(frozen=True, slots=True)
class Row:
    """One policy: the base, or what a run made of it.

    Attributes:
        fields: what differs from the recipe.
        greedy: of greedy captions and of POPE's answers, see `measures`.
        sampled: of captions sampled at temperature 1; None where there are none.
        cost: of its training; None for the base.
    """

    name: str
    label: str
    fields: Mapping[str, str]
    greedy: Measured
    sampled: Measured | None
    cost: Cost | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that one reproduction found; rows in the order of the plan, the base first.

    Attributes:
        scenes: how many of the split's first were asked about.
        policy: the model that is trained, and the hash of its weights.
        recipe: the recipe's file name and its content with what was laid over it.
        seconds, reward_seconds: of all trainings.
    """

    method: str
    seed: int
    split: str
    scenes: int
    policy: Mapping[str, str]
    recipe: Mapping[str, Any]
    rows: tuple[Row, ...]
    seconds: float
    reward_seconds: float
    versions: Mapping[str, str]

    def row(self, name: str) -> Row | None:
        """The row of this name."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def base(self) -> Row:
        """The policy as it was."""
        row = self.row(BASE)
        assert row is not None, "the base is measured first"
        return row

    def to_json(self) -> dict[str, Any]:
        """As results.json holds it: a figure's value stands in its row, intervals beside it."""
        named = {name: getattr(self, name) for name in self.__slots__ if name != "rows"}
        return {**named, "rows": [_row_json(row) for row in self.rows]}


def write_results(path: Path, results: Results) -> None:
    """Writes results.json whole."""
    write_whole(path, json.dumps(results.to_json(), indent=2, allow_nan=False) + "\n")


def read_results(path: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        ValueError: the file is not of this form; the message names it.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(_row(each) for each in content.pop("rows"))
        return Results(rows=rows, **content)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no result of `sightline reproduce`: {error}") from None


def _row_json(row: Row) -> dict[str, Any]:
    cost: dict[str, Any] = {"seconds": None, "reward_seconds": None, "reward_share": None}
    if row.cost is not None:
        cost = {
            "seconds": row.cost.seconds,
            "reward_seconds": row.cost.reward_seconds,
            "reward_share": row.cost.share,
        }
    return {
        "name": row.name,
        "label": row.label,
        "fields": dict(row.fields),
        **_measured_json(row.greedy),
        "sampled": None if row.sampled is None else _measured_json(row.sampled),
        **cost,
    }


def _measured_json(measured: Measured) -> dict[str, Any]:
    return {
        **{name: estimate.value for name, estimate in measured.figures.items()},
        "interval": {name: [each.low, each.high] for name, each in measured.figures.items()},
        "change": {
            name: {"value": each.value, "low": each.low, "high": each.high}
            for name, each in measured.change.items()
        },
    }


def _row(content: dict[str, Any]) -> Row:
    seconds, waited = content["seconds"], content["reward_seconds"]
    return Row(
        name=content["name"],
        label=content["label"],
        fields=content["fields"],
        greedy=_measured(content),
        sampled=None if content["sampled"] is None else _measured(content["sampled"]),
        cost=None if seconds is None else Cost(seconds, waited),
    )


def _measured(content: dict[str, Any]) -> Measured:
    intervals: dict[str, list[float | None]] = content["interval"]
    changes: dict[str, dict[str, float | None]] = content["change"]
    return Measured(
        {name: Estimate(content[name], low, high) for name, (low, high) in intervals.items()},
        {name: Estimate(**change) for name, change in changes.items()},
    )
