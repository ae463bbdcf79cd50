"""Preference pairs by SeVa (Zhu et al., 2024), from noised images. Knows no reward.

The chosen answer is the policy's greedy one, the rejected its greedy one to the same question about
the image under diffusion noise. Every process answers its share of the batches and appends to a
file of its own, whole batches at a time, so that a killed run goes on where it was. What decides
the pairs names the folder: runs that only differ in what they learn from the pairs can share it.
Sampled ids are kept and never tokenised again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sightline_trainers.checkpoint import Process, write_whole
from sightline_trainers.configuration import plain
from sightline_trainers.data import DataConfig, Row, load_image
from sightline_trainers.noise import STEPS, noised
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.policy import Policy, PolicyConfig, Sampling
from sightline_trainers.rollout import cut
from sightline_trainers.schedule import derived_seed
from sightline_trainers.tracking import Tracker

Fate = Literal["kept", "equal", "empty"]


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """How pairs are made.

    Raises:
        ValueError: a number is out of range.
    """

    folder: Path | None = None
    """Where pairs are kept, for several runs to share; pairs/ in output_dir where left out. The
    model is known by its name there: empty the folder when its weights have changed."""
    noise_step: int = 500
    """How far the diffusion goes: 0 (hardly) to 999; 500 leaves 86 % of the signal."""
    max_new_tokens: int = 512
    generation_batch: int = 8
    """Rows answered together."""

    def __post_init__(self) -> None:
        """Refuses what cannot be made."""
        if not 0 <= self.noise_step < STEPS:
            raise ValueError(f"pairs.noise_step is {self.noise_step}: give 0 to {STEPS - 1}")
        if self.max_new_tokens < 1 or self.generation_batch < 1:
            raise ValueError(
                f"pairs.max_new_tokens is {self.max_new_tokens} and generation_batch "
                f"{self.generation_batch}: give 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Pair:
    """One row's two answers.

    Attributes:
        row: the row's number in the data.
        origin: the row's origin.
        fate: whether it is trained on, or why not: both answers are equal but for space and
            case, or one is blank.
        chosen, rejected: the texts.
        chosen_ids, rejected_ids: the sampled ids, with the end token if it was reached.
        chosen_offsets: the range of characters of each chosen id.
        noise_step, noise_seed: what the rejected answer's image had.
        max_new_tokens: of both greedy generations.
    """

    row: int
    origin: str
    fate: Fate
    chosen: str
    rejected: str
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    chosen_offsets: tuple[tuple[int, int], ...]
    noise_step: int
    noise_seed: int
    max_new_tokens: int


def fate_of(chosen: str, rejected: str) -> Fate:
    """Whether two answers make a pair."""
    first, second = (" ".join(text.split()).casefold() for text in (chosen, rejected))
    if not first or not second:
        return "empty"
    return "equal" if first == second else "kept"


def digest(pairs: PairConfig, policy: PolicyConfig, data: DataConfig, *, seed: int) -> str:
    """A hash of all that decides the pairs, what the files hold among it."""
    content = {
        "policy": [policy.model, policy.revision, policy.dtype, _hash(policy.chat_template)],
        "data": [plain(data), _hash(data.path)],
        "pairs": {name: value for name, value in plain(pairs).items() if name != "folder"},
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _hash(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def noise_seed(image: bytes, step: int, seed: int) -> int:
    """The seed of an image's noise: the same for all questions about the image."""
    identity = int.from_bytes(hashlib.sha256(image).digest()[:8], "big")
    return derived_seed(seed, step, identity)


@torch.no_grad()
def answer(
    policy: Policy, rows: Sequence[tuple[int, Row]], config: PairConfig, *, seed: int
) -> list[Pair]:
    """Both greedy answers to each (number, row), generated in one batch.

    Raises:
        ValueError: an image cannot be read.
    """
    loaded = [load_image(row) for _, row in rows]
    seeds = [noise_seed(data, config.noise_step, seed) for _, data in loaded]
    clean = [
        policy.prompts.encode(image, row.prompt)
        for (image, _), (_, row) in zip(loaded, rows, strict=True)
    ]
    noisy = [
        {**prompt, "pixel_values": noised(prompt["pixel_values"], step=config.noise_step, seed=one)}
        for prompt, one in zip(clean, seeds, strict=True)
    ]
    sampling = Sampling(config.max_new_tokens, temperature=0.0)
    ids_BT, mask_BT = policy.sample([*clean, *noisy], sampling, [])  # noqa: N806 - shapes
    ids: list[tuple[int, ...]] = [
        tuple(row[mask == 1].tolist()) for row, mask in zip(ids_BT, mask_BT, strict=True)
    ]
    return [
        _pair(policy, number, row, chosen, rejected, one, config)
        for (number, row), chosen, rejected, one in zip(
            rows, ids[: len(rows)], ids[len(rows) :], seeds, strict=True
        )
    ]


def _pair(
    policy: Policy,
    number: int,
    row: Row,
    chosen_ids: tuple[int, ...],
    rejected_ids: tuple[int, ...],
    seed: int,
    config: PairConfig,
) -> Pair:
    chosen, offsets = decode_with_offsets(policy.prompts.decode, chosen_ids)
    rejected = policy.prompts.decode(list(rejected_ids))
    return Pair(
        row=number,
        origin=row.origin,
        fate=fate_of(chosen, rejected),
        chosen=chosen,
        rejected=rejected,
        chosen_ids=chosen_ids,
        rejected_ids=rejected_ids,
        chosen_offsets=offsets,
        noise_step=config.noise_step,
        noise_seed=seed,
        max_new_tokens=config.max_new_tokens,
    )


class PairFolder:
    """The pairs of one recipe on disk: a JSONL file per process, one line per answered row.

    Args:
        folder: theirs alone.
        rank: this process, which writes one of the files.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder = folder
        self._own = folder / f"pairs-{rank}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[int, Pair]:
        """What all processes have written, by row."""
        pairs = (
            _read(json.loads(line))
            for path in sorted(self._folder.glob("pairs-*.jsonl"))
            for line in _whole_lines(path)
        )
        return {pair.row: pair for pair in pairs}

    def mend(self) -> None:
        """Cuts off a line that was broken off, so that the next begins a line of its own."""
        if self._own.exists():
            write_whole(self._own, "".join(_whole_lines(self._own)))

    def add(self, pairs: Iterable[Pair]) -> None:
        """Appends to this process's file."""
        lines = [json.dumps(asdict(pair), ensure_ascii=False) for pair in pairs]
        with self._own.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def counts(pairs: Iterable[Pair]) -> dict[str, int]:
    """How many rows met which fate."""
    return dict(Counter(pair.fate for pair in pairs))


def build_pairs(
    policy: Policy,
    rows: Sequence[Row],
    config: PairConfig,
    *,
    seed: int,
    folder: Path,
    process: Process,
    barrier: Callable[[], Any],
) -> list[Pair]:
    """The pairs of all rows, dropped ones included; answers the rows that are not in the folder.

    Args:
        policy: as it is before training.
        rows: all images and prompts.
        config: how pairs are made.
        seed: the run's seed.
        folder: for the pairs of this recipe alone.
        process: this process, which takes its share of the batches.
        barrier: returns when all processes have called it.

    Raises:
        ValueError: an image cannot be read, or no row gives a pair.
    """
    kept = PairFolder(folder, process.rank)
    found = kept.read()
    parts = list(cut(range(len(rows)), config.generation_batch))
    mine = parts[process.rank :: process.n_processes]
    # a batch is answered whole: padding is part of what a greedy answer may depend on
    missing = [part for part in mine if not all(row in found for row in part)]
    if missing:
        kept.mend()
        policy.eval()
        with Tracker(folder, total=len(mine), name="pairs", leads=process.leads) as tracker:
            tracker.resume(len(mine) - len(missing))
            for number, part in enumerate(missing, start=len(mine) - len(missing) + 1):
                made = answer(policy, [(row, rows[row]) for row in part], config, seed=seed)
                kept.add(made)
                share = sum(pair.fate == "kept" for pair in made) / len(made)
                tracker.log(number, {"kept": share}, shown=("kept",))
    barrier()
    found = kept.read()
    pairs = [found[row] for row in range(len(rows))]
    if not any(pair.fate == "kept" for pair in pairs):
        raise ValueError(
            f"none of {len(rows)} rows gives a pair ({counts(pairs)}): raise pairs.noise_step, "
            f"which is {config.noise_step}"
        )
    return pairs


def _read(record: dict[str, Any]) -> Pair:
    record["chosen_offsets"] = tuple((start, end) for start, end in record["chosen_offsets"])
    for name in ("chosen_ids", "rejected_ids"):
        record[name] = tuple(record[name])
    return Pair(**record)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that may end in the middle of one."""
    # as bytes: the last character may be cut, and answers may hold other line ends of Unicode
    return [f"{line.decode()}\n" for line in path.read_bytes().split(b"\n")[:-1]]
