"""The record of a run as JSON and as Markdown tables. Knows results; runs nothing."""

import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sightline_bench.plan import CASES, CLAIMS, MORE_CASES, Case, Pace
from sightline_bench.summary import Verdict, Window, judge, median_of

_LIBRARIES = ("torch", "transformers", "open_clip_torch", "pillow", "fastapi", "uvicorn")


@dataclass(slots=True)
class Results:
    """All windows of a run, by case and contender, in the order of repeats."""

    windows: dict[str, dict[str, list[Window]]] = field(
        default_factory=dict[str, dict[str, list[Window]]]
    )

    def add(self, case: str, contender: str, window: Window) -> None:
        """Appends one window."""
        self.windows.setdefault(case, {}).setdefault(contender, []).append(window)

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Returns what an earlier run left there; empty where none did."""
        path = folder / "results.json"
        if not path.exists():
            return cls()
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        return cls(
            {
                case: {name: [_expanded(each) for each in windows] for name, windows in of.items()}
                for case, of in cases.items()
            }
        )

    def without(self, cases: Collection[str]) -> "Results":
        """Returns the windows of all other cases."""
        return Results({name: of for name, of in self.windows.items() if name not in cases})

    def verdicts(self) -> list[Verdict]:
        """Judges every claim."""
        return [judge(claim, self.windows.get(claim.case, {})) for claim in CLAIMS]


def machine() -> dict[str, object]:
    """Returns what a reader needs to compare: processor, cores, versions; no names of hosts."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def write(results: Results, pace: Pace, folder: Path) -> None:
    """Writes every window and verdict, and the tables; a run that ends early has left its own."""
    verdicts = [
        {**asdict(each.claim), "ratio": each.ratio, "least": each.least}
        | {"greatest": each.greatest, "repeats": each.repeats, "reached": each.reached}
        for each in results.verdicts()
    ]
    content = {
        "machine": machine(),
        "pace": asdict(pace),
        "verdicts": verdicts,
        "cases": {
            case: {name: [_compact(window) for window in windows] for name, windows in of.items()}
            for case, of in results.windows.items()
        },
    }
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")


def _compact(window: Window) -> dict[str, object]:
    found = {name: value for name, value in asdict(window).items() if value not in (None, ())}
    return {name: _rounded(value) for name, value in found.items()}


def _expanded(found: dict[str, Any]) -> Window:
    failures = tuple(found.pop("failures", ()))
    return Window(**found, failures=failures)


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def markdown(results: Results) -> str:
    """Returns the tables of a run."""
    parts = ["## Targets\n", _targets(results.verdicts())]
    for case in (*CASES, *MORE_CASES):
        if case.name in results.windows:
            parts += [f"\n## {case.name}\n", _table(case, results.windows[case.name])]
    return "\n".join(parts) + "\n"


def _targets(verdicts: Sequence[Verdict]) -> str:
    rows = ["| case | what | bound | median (least to greatest) | |", "|---|---|---|---|---|"]
    words = {True: "reached", False: "missed", None: "unmeasured"}
    for each in verdicts:
        claim = each.claim
        sign = "<=" if claim.at_most else ">="
        seen = "-"
        if each.ratio is not None:
            seen = f"{each.ratio:.3g} ({each.least:.3g} to {each.greatest:.3g}, n={each.repeats})"
        bound = f"{sign} {claim.bound:.3g}"
        rows.append(f"| {claim.case} | {claim.text} | {bound} | {seen} | {words[each.reached]} |")
    return "\n".join(rows)


def _table(case: Case, windows: Mapping[str, Sequence[Window]]) -> str:
    rows = [
        "| contender | pairs/s | p50 ms | p95 ms | p99 ms | cores | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for contender in case.contenders:
        of = windows.get(contender.name, ())
        times = [_ms(median_of(of, quantity)) for quantity in ("p50", "p95", "p99")]
        rate = median_of(of, "rate")  # none where no connection ended a cycle, or in open loop
        cores = median_of(of, "cores")
        memory = median_of(of, "memory_bytes")
        rows.append(
            f"| {contender.name} | {format(rate, '.1f') if rate else '-'} | {' | '.join(times)} | "
            f"{'-' if cores is None else format(cores, '.2f')} | "
            f"{'-' if memory is None else round(memory / 1e6)} |"
        )
    return "\n".join(rows)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.1f}"
