"""Held-out scenes, what is asked about them, and answers on disk. Knows the world; no policy."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline_eval.pope_questions import Question, build_questions
from sightline_eval.pope_questions import Split as PopeSplit
from sightline_trainers.checkpoint import write_whole
from sightline_trainers.reproduction.plan import FEWEST_SCENES
from sightline_world.captions import question
from sightline_world.scenes import Scene, scenes
from sightline_world.splits import Split

POPE_SPLITS: tuple[PopeSplit, ...] = ("random", "adversarial")
_PER_SCENE = 2


@dataclass(frozen=True, slots=True)
class Exam:
    """The first scenes of a split, and POPE's questions about them, by POPE's own split."""

    split: Split
    scenes: tuple[Scene, ...]
    questions: Mapping[str, tuple[Question, ...]]

    @property
    def name(self) -> str:
        """Stands for it in file names."""
        return f"{self.split}-{len(self.scenes)}"


def build_exam(split: Split, count: int) -> Exam:
    """The first `count` scenes of a split; each is asked for two present and two absent objects.

    Raises:
        ValueError: `count` is too small.
    """
    if count < FEWEST_SCENES:
        raise ValueError(f"scenes is {count}: give {FEWEST_SCENES} or more")
    drawn = tuple(scenes(split, count))
    objects = {scene.index: scene.layout.names for scene in drawn}
    n_fit = sum(len(names) >= _PER_SCENE for names in objects.values())
    questions: dict[str, tuple[Question, ...]] = {
        each: build_questions(objects, each, images=n_fit, per_image=_PER_SCENE, wording=question)
        for each in POPE_SPLITS
    }
    return Exam(split, drawn, questions)


@dataclass(frozen=True, slots=True)
class Answers:
    """What one policy says in an exam.

    Attributes:
        greedy: one caption per scene.
        sampled: one per scene at temperature 1; none where there are captions of one kind alone.
        pope: by split, question id -> answer; empty where nothing was asked.
        scores: 100 * cosine of each object that a greedy caption names, per scene; empty where no
            verifier was asked.
    """

    greedy: tuple[str, ...]
    sampled: tuple[str, ...] = ()
    pope: Mapping[str, Mapping[int, str]] = field(default_factory=dict[str, Mapping[int, str]])
    scores: tuple[tuple[float, ...], ...] = ()


def write_answers(path: Path, answers: Answers, *, key: str) -> None:
    """Keeps answers under a key that names who answered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"key": key, **asdict(answers)}
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_answers(path: Path, *, key: str) -> Answers | None:
    """The answers that were kept under the key; None where there are none."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content["key"] != key:
        return None
    return Answers(
        greedy=tuple(content["greedy"]),
        sampled=tuple(content["sampled"]),
        pope={
            split: {int(number): text for number, text in said.items()}
            for split, said in content["pope"].items()
        },
        scores=tuple(map(tuple, content["scores"])),
    )
