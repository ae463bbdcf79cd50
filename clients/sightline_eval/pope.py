"""POPE: does a model say yes to objects that are not there? Knows questions and answers; no files.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023. An answer
is read in one of two ways, whose figures do not compare:

- "official" as the published scorer: up to the first full stop and without commas, an answer is no
  if one of its words is exactly "No", "no" or "not", else yes. So "" and "NO" are yes.
- "lmms-eval" as that harness: an answer counts only if it is yes or no and nothing else, in any
  case. Any other lowers the accuracy and is left out of precision, recall and F1.

SVP's "object recall" is the recall over all three splits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sightline_eval.bootstrap import Estimate, estimate
from sightline_eval.pope_questions import Question

Mode = Literal["official", "lmms-eval"]
OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class PopeScores:
    """The figures of one set of questions, in [0, 1]; intervals by resampling whole images.

    Attributes:
        precision: undefined where nothing is answered yes.
        yes_ratio: answers that say yes / questions (lmms-eval prints the share of the labels,
            which is always one half).
        n_unread: answers that are neither yes nor no.
    """

    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    yes_ratio: Estimate
    n_questions: int
    n_unread: int


def read_answer(answer: str, mode: Mode) -> bool | None:
    """Whether the answer says yes; None where it says neither."""
    if mode == "lmms-eval":
        return {"yes": True, "no": False}.get(answer.lower().strip())
    words = answer.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def score_pope(
    questions: Iterable[Question],
    answers: Mapping[int, str],
    *,
    mode: Mode = "official",
    resamples: int = 500,
) -> PopeScores:
    """Scores the answers to one split.

    Args:
        questions: the split.
        answers: question id -> what the model said; their order does not matter.
        mode: how an answer is read.
        resamples: samples of the bootstrap.

    Raises:
        ValueError: there are no questions, two have one id, or ids and answers do not match.
    """
    return _summarise(_judge(questions, answers, mode), resamples)


def score_splits(
    questions: Mapping[str, Iterable[Question]],
    answers: Mapping[str, Mapping[int, str]],
    *,
    mode: Mode = "official",
    resamples: int = 500,
) -> dict[str, PopeScores]:
    """Split -> its scores, and under "overall" those of all questions together.

    An image's questions in all splits are resampled together. Arguments and errors are as in
    `score_pope`, by split.
    """
    if questions.keys() != answers.keys():
        raise ValueError(
            f"questions has the splits {sorted(questions)}, answers {sorted(answers)}: "
            f"give both for each split"
        )
    judged: dict[str, list[_Judged]] = {}
    for split, asked in questions.items():
        try:
            judged[split] = _judge(asked, answers[split], mode)
        except ValueError as error:
            raise ValueError(f"split {split}: {error}") from None
    judged[OVERALL] = [one for split in judged.values() for one in split]
    return {split: _summarise(ones, resamples) for split, ones in judged.items()}


@dataclass(frozen=True, slots=True)
class _Judged:
    image: str
    is_yes: bool
    said_yes: bool | None


class _Counts(NamedTuple):
    """How many answers are true and false yes and no, and neither ("unread")."""

    true_yes: int
    false_yes: int
    true_no: int
    false_no: int
    unread: int


def _judge(questions: Iterable[Question], answers: Mapping[int, str], mode: Mode) -> list[_Judged]:
    by_id: dict[int, Question] = {}
    for question in questions:
        if question.id in by_id:
            raise ValueError(f"question id {question.id} occurs twice: give one split at a time")
        by_id[question.id] = question
    if not by_id:
        raise ValueError("questions is empty: POPE needs at least one")
    _compare_ids("without an answer", by_id.keys() - answers.keys())
    _compare_ids("answered but not asked", answers.keys() - by_id.keys())
    return [
        _Judged(it.image, it.is_yes, read_answer(answers[it.id], mode)) for it in by_id.values()
    ]


def _compare_ids(problem: str, ids: set[int]) -> None:
    if ids:
        some = ", ".join(str(one) for one in sorted(ids)[:5])
        raise ValueError(
            f"{len(ids)} question ids are {problem} ({some}{', ...' if len(ids) > 5 else ''}): "
            f"give the questions that the model was asked"
        )


def _summarise(judged: Sequence[_Judged], resamples: int) -> PopeScores:
    images: dict[str, list[_Judged]] = {}
    for one in judged:
        images.setdefault(one.image, []).append(one)
    counts = [_count(group) for group in images.values()]
    total = _add(counts)
    return PopeScores(
        accuracy=estimate(counts, _accuracy, resamples=resamples),
        precision=estimate(counts, _precision, resamples=resamples),
        recall=estimate(counts, _recall, resamples=resamples),
        f1=estimate(counts, _f1, resamples=resamples),
        yes_ratio=estimate(counts, _yes_ratio, resamples=resamples),
        n_questions=sum(total),
        n_unread=total.unread,
    )


def _count(judged: Iterable[_Judged]) -> _Counts:
    pairs = [(one.is_yes, one.said_yes) for one in judged]
    return _Counts(
        true_yes=pairs.count((True, True)),
        false_yes=pairs.count((False, True)),
        true_no=pairs.count((False, False)),
        false_no=pairs.count((True, False)),
        unread=pairs.count((True, None)) + pairs.count((False, None)),
    )


def _add(counts: Sequence[_Counts]) -> _Counts:
    return _Counts(*map(sum, zip(*counts, strict=True)))


def _accuracy(counts: Sequence[_Counts]) -> float:
    total = _add(counts)
    return (total.true_yes + total.true_no) / sum(total)


def _precision(counts: Sequence[_Counts]) -> float | None:
    total = _add(counts)
    return _share(total.true_yes, total.true_yes + total.false_yes)


def _recall(counts: Sequence[_Counts]) -> float | None:
    total = _add(counts)
    return _share(total.true_yes, total.true_yes + total.false_no)


def _f1(counts: Sequence[_Counts]) -> float | None:
    total = _add(counts)
    return _share(2 * total.true_yes, 2 * total.true_yes + total.false_yes + total.false_no)


def _yes_ratio(counts: Sequence[_Counts]) -> float:
    total = _add(counts)
    return (total.true_yes + total.false_yes) / sum(total)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
