"""The figures of answers in an exam, with intervals. Knows captions and scenes; no policy.

Every figure is a ratio of sums over scenes, so a scene is reduced to what it adds above and below.
CHAIR and recall count distinct categories, as the world's model cards do.
"""

from collections.abc import Mapping, Sequence

from sightline_eval.bootstrap import Estimate, estimate
from sightline_eval.cider import cider
from sightline_eval.mentions import count_words
from sightline_eval.penn_words import penn_words
from sightline_eval.pope import read_answer
from sightline_trainers.reproduction.exam import Exam
from sightline_world.captions import faithful, mentioned
from sightline_world.scenes import Scene
from sightline_world.splits import stream

Tally = tuple[float, float]
"""What one scene adds above and below the line."""
Tallies = Mapping[str, Sequence[Tally]]
"""By figure, one per scene."""

CAPTION_FIGURES = ("chair_s", "chair_i", "recall", "objects", "words", "cider")
"""Shares in [0, 1], but for objects and words per caption, and CIDEr in [0, 10]."""
POPE_FIGURES = ("pope_f1", "pope_recall", "pope_accuracy")
"""In [0, 1], over the random and the adversarial questions together."""
_REFERENCES = 5


def caption_tallies(captions: Sequence[str], exam: Exam) -> dict[str, list[Tally]]:
    """What each scene's caption adds to `CAPTION_FIGURES`.

    chair_s: captions that name an absent category; chair_i: absent categories / categories named;
    recall: present categories named / present ones; objects: categories named per caption; cider:
    against five faithful captions of the scene in different words.
    """
    tallies: dict[str, list[Tally]] = {name: [] for name in CAPTION_FIGURES}
    references = [_references(scene) for scene in exam.scenes]
    similar = cider([penn_words(text) for text in captions], references)
    for text, scene, score in zip(captions, exam.scenes, similar, strict=True):
        named, present = set(mentioned(text)), set(scene.layout.names)
        wrong = named - present
        tallies["chair_s"].append((bool(wrong), 1))
        tallies["chair_i"].append((len(wrong), len(named)))
        tallies["recall"].append((len(named & present), len(present)))
        tallies["objects"].append((len(named), 1))
        tallies["words"].append((count_words(text), 1))
        tallies["cider"].append((score, 1))
    return tallies


def pope_tallies(answers: Mapping[str, Mapping[int, str]], exam: Exam) -> dict[str, list[Tally]]:
    """What each scene's answers add to `POPE_FIGURES`, read as POPE's published scorer does."""
    counts = {str(scene.index): [0, 0, 0, 0] for scene in exam.scenes}
    for split, questions in exam.questions.items():
        for each in questions:
            says_yes = bool(read_answer(answers[split][each.id], "official"))
            counts[each.image][2 * each.is_yes + says_yes] += 1
    tallies: dict[str, list[Tally]] = {name: [] for name in POPE_FIGURES}
    for true_no, false_yes, false_no, true_yes in counts.values():
        tallies["pope_f1"].append((2 * true_yes, 2 * true_yes + false_yes + false_no))
        tallies["pope_recall"].append((true_yes, true_yes + false_no))
        right, wrong = true_yes + true_no, false_yes + false_no
        tallies["pope_accuracy"].append((right, right + wrong))
    return tallies


def figures(tallies: Tallies) -> dict[str, Estimate]:
    """Each figure with its bootstrap interval over scenes."""
    return {name: estimate(parts, _ratio) for name, parts in tallies.items()}


def changes(tallies: Tallies, base: Tallies) -> dict[str, Estimate]:
    """Each figure minus that of the base, both resampled by the same scenes."""
    return {
        name: estimate(list(zip(parts, base[name], strict=True)), _difference)
        for name, parts in tallies.items()
        if name in base
    }


def _ratio(parts: Sequence[Tally]) -> float | None:
    below = sum(part[1] for part in parts)
    return sum(part[0] for part in parts) / below if below else None


def _difference(pairs: Sequence[tuple[Tally, Tally]]) -> float | None:
    after, before = _ratio([pair[0] for pair in pairs]), _ratio([pair[1] for pair in pairs])
    return None if after is None or before is None else after - before


def _references(scene: Scene) -> list[tuple[str, ...]]:
    streams = (
        stream(scene.split, scene.index, purpose="caption", seed=seed)
        for seed in range(_REFERENCES)
    )
    return [penn_words(faithful(scene.layout, rng)) for rng in streams]
