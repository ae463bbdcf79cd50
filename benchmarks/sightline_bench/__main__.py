"""`make bench`: environments, weights, servers, windows, report. Knows the order of things."""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from sightline_bench import environments, report
from sightline_bench.captioner import write_captioner
from sightline_bench.limit import LimitProcess
from sightline_bench.measuring import Arena, measure
from sightline_bench.plan import CASES, FULL, MORE_CASES, QUICK, Case, Contender, Pace
from sightline_bench.plot import write_plot
from sightline_bench.summary import Window
from sightline_bench.systems import Starter
from sightline_bench.weights import folders, write_model

ROOT = Path(__file__).parents[2]
_SIGNALLED = 128


def _stop(number: int, _: object) -> None:
    """Leaves by an exception, so that the servers are stopped."""
    sys.exit(_SIGNALLED + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what was asked for; returns the exit status."""
    signal.signal(signal.SIGTERM, _stop)
    options = _options(argv)
    pace = replace(
        QUICK if options.quick else FULL,
        cases=tuple(options.cases),
        **({"repeats": options.repeats} if options.repeats else {}),
        **({"seconds": options.seconds} if options.seconds else {}),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    everything = (*CASES, *MORE_CASES) if options.cases else CASES
    cases = [case.without(options.without) for case in everything if pace.wants(case)]
    results = report.Results()
    if options.cases:  # the others keep what an earlier run saw
        results = report.Results.read(options.out).without([case.name for case in cases])
    for model, group in groupby(cases, key=lambda case: case.model):
        _run(model, list(group), pace, results, build=options.build, out=options.out)
    write_plot(results, options.out / "results.png")
    sys.stdout.write(report.markdown(results))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sightline_bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short pass over everything")
    parser.add_argument("--cases", nargs="*", default=[], help="words in the names of cases")
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--repeats", type=int, help="windows of each contender")
    parser.add_argument("--seconds", type=float, help="length of a window")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="for environments")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "results")
    return parser.parse_args(argv)


def _run(
    model: str, cases: list[Case], pace: Pace, results: report.Results, *, build: Path, out: Path
) -> None:
    work = build / "bench"
    names = sorted({each.server for case in cases for each in case.contenders} - {"limit"})
    for name in environments.NAMES:
        if name in names or (name == "litserve" and "fastapi" in names):
            environments.make_environment(build, name)
    write_model(work / "models", model)
    model_folders = folders(work / "models", model)
    logs = work / "logs" / model
    logs.mkdir(parents=True, exist_ok=True)
    captioner = "world" if model == "tiny" else write_captioner(work / "models" / "captioner")
    starter = Starter(model_folders, captioner, build=build, logs=logs)

    def record(case: Case, contender: Contender, window: Window) -> None:
        results.add(case.name, contender.name, window)
        latency = "" if window.p50 is None else f", p50 {1000 * window.p50:.1f} ms"
        failures = f", FAILED: {window.failures[0]}" if window.failures else ""
        sys.stderr.write(
            f"{case.name}: {contender.name} {window.rate:.1f} pairs/s{latency}{failures}\n"
        )
        report.write(results, pace, out)

    with ExitStack() as stack:
        servers = {name: starter.start(name) for name in names}
        for server in servers.values():
            stack.callback(server.stop)
        clip = f"open_clip:local-dir:{model_folders.open_clip}"
        limit = LimitProcess(clip, captioner, work / "pictures", logs / "limit.log")
        stack.callback(limit.stop)
        for server in servers.values():
            server.wait_until_ready()
            server.halt()
        limit.halt()
        arena = Arena(servers, limit, work / "pictures")
        for case in cases:
            measure(case, arena, pace, record)


if __name__ == "__main__":
    sys.exit(main())
