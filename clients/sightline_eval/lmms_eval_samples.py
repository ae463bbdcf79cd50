"""Sample logs of lmms-eval: what a model said, row by row. Knows files; runs no model.

`lmms_eval --log_samples --output_path DIR` writes `DIR/MODEL/DATE_samples_TASK.jsonl`. A row has
`doc_id`, `target`, `filtered_resps` (the response; `resps` before filters where it differs) and one
entry per metric: the POPE tasks' hold `question_id` and `ground_truth`, those of the caption tasks
(COCO, Flickr30k, NoCaps, RefCOCO) the references as `answer`. Some versions keep the data set's row
as `doc`, without its image.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline_eval.captions import Caption
from sightline_eval.pope_questions import Question, Split

_SPLITS: Mapping[str, Split] = {
    "pope_random": "random",
    "pope_pop": "popular",
    "pope_adv": "adversarial",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: the model's response to one document of the task.

    `place` is "file:line", `fields` all that the row holds.
    """

    doc_id: int
    response: str
    place: str
    fields: Mapping[str, Any]

    def entry(self, *keys: str) -> Mapping[str, Any] | None:
        """The first metric's entry that has all the keys; None where none has."""
        entries = (value for value in self.fields.values() if isinstance(value, dict))
        return next((it for it in entries if all(key in it for key in keys)), None)


def task_of(path: Path) -> str:
    """The task whose log a file is, by its name: "20250101_120000_samples_pope_adv.jsonl".

    Raises:
        ValueError: the name is not of that form.
    """
    _, found, task = path.stem.partition("_samples_")
    if not found:
        raise ValueError(f"{path.name} is no DATE_samples_TASK.jsonl: keep lmms-eval's file names")
    return task


def split_of(path: Path) -> Split:
    """The POPE split whose log a file is, by its name.

    Raises:
        ValueError: it is the log of another task. The task `pope`, which mixes the splits, numbers
            the questions of each split alike, so it is refused too.
    """
    task = task_of(path)
    if task not in _SPLITS:
        raise ValueError(f"{path.name} is of task {task}: run {', '.join(_SPLITS)} instead")
    return _SPLITS[task]


def load_samples(path: Path) -> tuple[Sample, ...]:
    """Reads a log, in the order of `doc_id`.

    Raises:
        ValueError: a row is no such sample, or a `doc_id` occurs twice (several filters or runs in
            one file); the message gives file and line.
    """
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    samples: dict[int, Sample] = {}
    for number, line in lines:
        if not line.strip():
            continue
        sample = _sample(line, f"{path}:{number}")
        if sample.doc_id in samples:
            raise ValueError(f"{sample.place}: doc_id {sample.doc_id} occurs twice: keep one run")
        samples[sample.doc_id] = sample
    if not samples:
        raise ValueError(f"{path} is empty: give the log of a run with --log_samples")
    return tuple(samples[doc_id] for doc_id in sorted(samples))


def pope_answers(samples: Iterable[Sample]) -> tuple[tuple[Question, ...], dict[int, str]]:
    """The questions of one split, and question id -> response.

    Most versions log neither image nor wording. Where no image is known, each question counts as an
    image of its own, which makes intervals too narrow: use POPE's own file with the answers then.

    Raises:
        ValueError: a row has no entry of POPE, or a question occurs twice.
    """
    questions: dict[int, Question] = {}
    answers: dict[int, str] = {}
    for sample in samples:
        entry = sample.entry("question_id", "ground_truth")
        if entry is None:
            raise ValueError(f"{sample.place} has no question_id and ground_truth: is it POPE's?")
        number = _question_id(entry["question_id"], sample.place)
        if number in questions:
            raise ValueError(f"{sample.place}: question_id {number} occurs twice: give one split")
        document = sample.entry("question", "answer") or {}
        questions[number] = Question(
            number,
            str(document.get("image_source", f"question {number}")),
            str(document.get("question", "")),
            entry["ground_truth"] == "yes",
        )
        answers[number] = sample.response
    return tuple(questions.values()), answers


def captions_with_references(
    samples: Iterable[Sample],
) -> tuple[tuple[Caption, ...], dict[int, tuple[str, ...]]]:
    """Captions, and image -> references, of a captioning or referring-expression task.

    The `doc_id` stands for the image, since one image may have several regions to describe.

    Raises:
        ValueError: a row has no references.
    """
    captions: list[Caption] = []
    references: dict[int, tuple[str, ...]] = {}
    for sample in samples:
        entry = sample.entry("answer", "pred")
        texts = entry["answer"] if entry else None
        if not isinstance(texts, list) or not texts:
            raise ValueError(f"{sample.place} has no references: is its task a captioning one?")
        captions.append(Caption(sample.doc_id, sample.response))
        references[sample.doc_id] = tuple(map(str, texts))
    return tuple(captions), references


def _question_id(value: object, place: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"{place}: question_id is {value!r}: it must be a whole number") from None


def _sample(line: str, place: str) -> Sample:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("doc_id"), int):
        raise ValueError(f"{place} has no doc_id: give a log of --log_samples")
    response = row.get("filtered_resps", row.get("resps"))
    while isinstance(response, list) and len(response) == 1:
        response = response[0]
    if not isinstance(response, str):
        raise ValueError(
            f"{place}: filtered_resps is {response!r}: only one text per document can be scored"
        )
    return Sample(row["doc_id"], response, place, row)
