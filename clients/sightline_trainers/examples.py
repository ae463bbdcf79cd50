"""What a policy said in a run, for people to read. Knows what each method leaves; no HTML."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sightline_proto import SpanReward
from sightline_trainers import seva
from sightline_trainers.candidates import Candidate, CandidateFiles
from sightline_trainers.checkpoint import Process, write_whole
from sightline_trainers.configuration import build
from sightline_trainers.data import DataConfig
from sightline_trainers.journal import Journal
from sightline_trainers.policy import PolicyConfig
from sightline_trainers.rewards import Grades, Response

SHOWN = 4
"""Examples of one moment of a run."""


@dataclass(frozen=True, slots=True)
class Said:
    """One text about an image: what it is, its rewarded words where it has some, and a remark."""

    title: str
    text: str
    spans: tuple[SpanReward, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the data, by its number, and what was said of it."""

    row: int
    origin: str
    texts: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """Examples of one moment of a run."""

    name: str
    examples: tuple[Example, ...]


def write_rollouts(
    folder: Path,
    step: int,
    rows: Sequence[int],
    responses: Sequence[Response],
    grades: Sequence[Grades],
) -> None:
    """Keeps the first responses of a step with their rewards.

    Args:
        folder: the run's folder.
        step: the step.
        rows: the number of each response's row.
        responses: what was sampled.
        grades: what it earned.
    """
    found = zip(rows, responses, grades, strict=True)
    content = [
        {
            "row": row,
            "origin": response.origin,
            "text": response.text,
            "reward": sum(earned.values),
            "spans": [span.model_dump(mode="json") for span in earned.spans],
        }
        for row, response, earned in islice(found, SHOWN)
    ]
    path = folder / "examples" / f"step-{step:08d}.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_moments(folder: Path, manifest: Mapping[str, Any]) -> list[Moment]:
    """The first and the last moment of which a run has examples.

    Raises:
        OSError, ValueError: a file that the run has written, or its data, cannot be read.
    """
    method = manifest["method"]
    if method == "csr":
        found = _pairs(folder)
    elif method == "svp":
        found = _candidates(folder)
    elif method in ("aspo", "dpo"):
        found = _answers(folder, manifest["config"])
    else:
        found = _rollouts(folder)
    return found if len(found) < 2 else [found[0], found[-1]]


def _rollouts(folder: Path) -> list[Moment]:
    return [
        Moment(
            f"Step {int(path.stem.removeprefix('step-'))}: sampled responses",
            tuple(_rollout(each) for each in json.loads(path.read_text(encoding="utf-8"))),
        )
        for path in sorted((folder / "examples").glob("step-*.json"))
    ]


def _rollout(record: Mapping[str, Any]) -> Example:
    spans = tuple(SpanReward.model_validate(each) for each in record["spans"])
    said = Said("sampled", record["text"], spans, f"reward {record['reward']:+.2f} in all")
    return Example(record["row"], record["origin"], (said,))


def _pairs(folder: Path) -> list[Moment]:
    """The first pairs of each of CSR's iterations."""
    moments: list[Moment] = []
    for path in sorted(folder.glob("iteration-*/pairs-0.jsonl"), key=_iteration):
        paired = (each for each in Journal(path).read() if each["dropped"] is None)
        shown = tuple(_pair(each) for each in islice(paired, SHOWN))
        moments.append(Moment(f"Iteration {_iteration(path)}: pairs", shown))
    return moments


def _iteration(path: Path) -> int:
    return int(path.parent.name.removeprefix("iteration-"))


def _pair(record: Mapping[str, Any]) -> Example:
    sides = {side: record[side] for side in ("chosen", "rejected")}
    said = [
        Said(f"{side}, value {each['value']:.3g}", each["text"], (), _parts(each))
        for side, each in sides.items()
    ]
    return Example(record["row"], record["origin"], tuple(said))


def _parts(response: Mapping[str, Any]) -> str:
    if "image" not in response:
        return ""
    return f"mean R_I {response['image']:.1f}, mean R_T {response['language']:.2f}"


def _candidates(folder: Path) -> list[Moment]:
    """The first images of each of SVP's iterations, with what was learned of them."""
    files = CandidateFiles(folder / "candidates", Process(0, 1))
    n_iterations = len(list((folder / "candidates").glob("iteration-*")))
    return [
        Moment(f"Iteration {number + 1}: what was chosen", tuple(_chosen(files.all(number))))
        for number in range(n_iterations)
    ]


def _chosen(candidates: Iterable[Candidate]) -> list[Example]:
    first: dict[int, Candidate] = {}
    for each in candidates:
        if each.kind == "description" and each.outcome == "chosen":
            first.setdefault(each.place, each)
    return [
        Example(
            each.row,
            each.origin,
            (
                Said("plain draft", each.draft),
                Said("what the detector found of it", each.context),
                Said("guided, learned", each.text, (), f"S {each.S:.1f}, Delta {each.Delta:.1f}"),
            ),
        )
        for each in islice(first.values(), SHOWN)
    ]


def _answers(folder: Path, config: Mapping[str, Any]) -> list[Moment]:
    """The first pairs that ASPO or DPO learned."""
    pairs = build(seva.PairConfig, config["pairs"], origin="the manifest")
    policy = build(PolicyConfig, config["policy"], origin="the manifest")
    data = build(DataConfig, config["data"], origin="the manifest")
    name = seva.digest(pairs, policy, data, seed=config["seed"])
    whole = (pairs.folder or folder / "pairs") / name
    if not whole.is_dir():
        return []
    answered = seva.PairFolder(whole, 0).read()
    kept = (answered[row] for row in sorted(answered) if answered[row].fate == "kept")
    shown = [
        Example(
            each.row,
            each.origin,
            (
                Said("chosen: of the image", each.chosen),
                Said("rejected: of the noised image", each.rejected),
            ),
        )
        for each in islice(kept, SHOWN)
    ]
    return [Moment("Pairs", tuple(shown))]
