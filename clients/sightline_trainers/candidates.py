"""Guided samples with their scores, and which of them are learned (SVP). Knows text and files."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sightline_core.sentences import split_sentences
from sightline_trainers.checkpoint import Process, write_whole

Outcome = Literal[
    "chosen",
    "no grounding",
    "empty",
    "unfinished",
    "leaked",
    "repetitive",
    "short",
    "duplicate",
    "rank",
]
"""What became of a candidate: learned, or why not. In the order in which it is asked.

no grounding: nothing that its draft names was found, so q would be p with an empty context;
empty: no text; unfinished: no end token; leaked: it speaks of the context that it was shown;
repetitive: see `repeats`; short: fewer words than asked for; duplicate: an equal text of the image
stands before it; rank: others of its image have higher scores.
"""

_LEAK = re.compile(
    r"[\[(]\s*\d*\.\d+(\s*,\s*\d*\.\d+)+\s*[\])]|</?context\b|\bcontext\b|\bbounding\s+box(es)?\b",
    re.IGNORECASE,
)
_ONE_CHARACTER = re.compile(r"(\S)\1{10,}")
_LONGEST_LOOP, _TURNS, _LOOP_WORDS = 20, 3, 6
_SENTENCE_TURNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One answer that may be learned, with all that led to it.

    Attributes:
        place: the image's place in the run, which gives its seeds.
        sample: 0 .. K - 1 of its image.
        row: the image's row in the data; `origin` its name there.
        kind: a description, or the answer to a visual query.
        prompt: the question under which it would be learned.
        draft: the plain sample z_p; `context` what was found of it, as the guided prompt showed it.
        text: the guided sample z_q; `ids` its tokens as sampled, the end token included.
        finished: whether it has an end token.
        S, Delta, log_ratio: Eq. 5, 6 and 4, sums over `n_tokens` tokens in nats.
        outcome: what became of it.
    """

    place: int
    sample: int
    row: int
    origin: str
    kind: Literal["description", "query"] = "description"
    prompt: str
    draft: str = ""
    context: str = ""
    text: str
    ids: tuple[int, ...]
    finished: bool
    S: float = 0.0
    Delta: float = 0.0
    log_ratio: float = 0.0
    n_tokens: int = 0
    outcome: Outcome = "rank"


def top_k(
    candidates: Sequence[Candidate],
    k: int,
    *,
    score: Callable[[Candidate], float],
    min_words: int,
    grounded: bool = True,
) -> tuple[Candidate, ...]:
    """The candidates of one image with their outcomes: the k best of those without a flaw.

    Of equal scores the earlier sample is taken. Fewer than k are chosen where fewer are left.

    Args:
        candidates: all samples of the image.
        k: how many are chosen.
        score: what the best are best in.
        min_words: fewest words of a description.
        grounded: whether a candidate needs a context.
    """
    seen: set[str] = set()
    flaws: list[Outcome | None] = []
    for each in candidates:
        flaw = _flaw(each, min_words=min_words, grounded=grounded)
        words = " ".join(each.text.split())
        flaws.append("duplicate" if flaw is None and words in seen else flaw)
        seen.update([words] if flaw is None else [])
    sound = [place for place, flaw in enumerate(flaws) if flaw is None]
    best = set(sorted(sound, key=lambda place: -score(candidates[place]))[:k])
    ranked: list[Outcome] = [
        "chosen" if place in best else "rank" for place in range(len(candidates))
    ]
    return tuple(
        replace(each, outcome=flaw or rank)
        for each, flaw, rank in zip(candidates, flaws, ranked, strict=True)
    )


def answered(query: Candidate) -> Candidate:
    """A visual query with its outcome: every finished answer is learned."""
    if not query.text.strip():
        return replace(query, outcome="empty")
    return replace(query, outcome="chosen" if query.finished else "unfinished")


def repeats(text: str) -> bool:
    """Whether a text is stuck.

    That is: up to 20 words that stand three times in a row (one word six times), one character
    eleven times in a row, or a sentence three times anywhere.
    """
    words = text.casefold().split()
    if _ONE_CHARACTER.search(text):
        return True
    if any(_loops(words, size) for size in range(1, _LONGEST_LOOP + 1)):
        return True
    sentences = Counter(each.text.strip().casefold() for each in split_sentences(text))
    return max(sentences.values(), default=0) >= _SENTENCE_TURNS


def tallies(candidates: Sequence[Candidate]) -> dict[str, tuple[float, float]]:
    """Numerator and denominator of each sampling metric of `svp.METRICS`."""
    described = [each for each in candidates if each.kind == "description"]
    sound = [each for each in described if each.outcome in ("chosen", "rank")]
    chosen = [each for each in sound if each.outcome == "chosen"]
    queries = [each for each in candidates if each.kind == "query"]
    return {
        "chosen": (len(chosen), len(described)),
        "sound": (len(sound), len(described)),
        "no_grounding": (sum(each.outcome == "no grounding" for each in described), len(described)),
        "S": (sum(each.S for each in sound), len(sound)),
        "S_chosen": (sum(each.S for each in chosen), len(chosen)),
        "Delta": (sum(each.Delta for each in sound), len(sound)),
        "Delta_chosen": (sum(each.Delta for each in chosen), len(chosen)),
        "tokens": (sum(len(each.ids) for each in sound), len(sound)),
        "objects": (sum(len(each.context.splitlines()) for each in sound), len(sound)),
        "opening": (sum(each.text.startswith("In the image") for each in sound), len(sound)),
        "queries": (sum(each.outcome == "chosen" for each in queries), len(described)),
    }


def _flaw(candidate: Candidate, *, min_words: int, grounded: bool) -> Outcome | None:
    text = candidate.text
    flaws: dict[Outcome, bool] = {
        "no grounding": grounded and not candidate.context,
        "empty": not text.strip(),
        "unfinished": not candidate.finished,
        "leaked": bool(_LEAK.search(text)),
        "repetitive": repeats(text),
        "short": len(text.split()) < min_words,
    }
    return next((name for name, found in flaws.items() if found), None)


def _loops(words: Sequence[str], size: int) -> bool:
    """Whether `size` words stand at least three times in a row, in six words or more."""
    needed = size * max(_TURNS, -(-_LOOP_WORDS // size)) - size
    run = 0
    for place in range(size, len(words)):
        run = run + 1 if words[place] == words[place - size] else 0
        if run >= needed:
            return True
    return False


class CandidateFiles:
    """All candidates of a run as JSONL: a folder per iteration, a file per step and process.

    A file appears whole or not at all, so that a run that was stopped goes on behind the last.

    Args:
        folder: where the folders are.
        process: this process.
    """

    def __init__(self, folder: Path, process: Process) -> None:
        self._folder = folder
        self._process = process

    def clear(self) -> None:
        """Drops what an earlier run left that has no checkpoint; the first process does it."""
        if self._process.leads:
            shutil.rmtree(self._folder, ignore_errors=True)

    def has(self, iteration: int, number: int) -> bool:
        """Whether this process has written its part of step `number` of the iteration."""
        return self._part(iteration, number).is_file()

    def write(self, iteration: int, number: int, candidates: Sequence[Candidate]) -> None:
        """Writes this process's part of a step."""
        path = self._part(iteration, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(each), ensure_ascii=False) for each in candidates]
        write_whole(path, "".join(f"{line}\n" for line in lines))

    def part(self, iteration: int, number: int) -> tuple[Candidate, ...]:
        """What this process wrote."""
        return tuple(_read(self._part(iteration, number)))

    def all(self, iteration: int) -> tuple[Candidate, ...]:
        """The candidates of an iteration from all processes, in the order of the run."""
        found = [each for path in self._paths(iteration) for each in _read(path)]
        return tuple(sorted(found, key=lambda each: (each.place, each.kind, each.sample)))

    def _paths(self, iteration: int) -> list[Path]:
        return sorted(self._part(iteration, 0).parent.glob("step-*.jsonl"))

    def _part(self, iteration: int, number: int) -> Path:
        name = f"step-{number + 1:05d}-process-{self._process.rank}.jsonl"
        return self._folder / f"iteration-{iteration + 1}" / name


def _read(path: Path) -> list[Candidate]:
    # not splitlines: a text may hold a line separator that JSON leaves as it is
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_candidate(json.loads(line)) for line in lines if line]


def _candidate(record: dict[str, Any]) -> Candidate:
    ids = tuple(record.pop("ids"))
    return Candidate(ids=ids, **record)
