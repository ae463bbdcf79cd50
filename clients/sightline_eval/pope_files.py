"""POPE's questions and answers on disk: one JSON object a line. Knows files; scores nothing."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sightline_eval.pope_questions import Question


def load_questions(path: Path) -> tuple[Question, ...]:
    """Reads a split in POPE's format: `question_id`, `image`, `text` and `label` ("yes" or "no").

    Raises:
        ValueError: a row lacks a field or has a wrong one, or an id occurs twice; the message
            gives file and line.
    """
    questions: dict[int, Question] = {}
    for place, row in _rows(path, ("question_id", "image", "text", "label")):
        label = row["label"]
        if label not in ("yes", "no"):
            raise ValueError(f'{place}: label is {label!r}: write "yes" or "no"')
        number = _new_id(row["question_id"], questions, place)
        questions[number] = Question(number, str(row["image"]), str(row["text"]), label == "yes")
    return tuple(questions.values())


def save_questions(questions: Iterable[Question], path: Path) -> None:
    """Writes a split in POPE's format."""
    _write(
        path,
        (
            {
                "question_id": question.id,
                "image": question.image,
                "text": question.text,
                "label": "yes" if question.is_yes else "no",
            }
            for question in questions
        ),
    )


def load_answers(path: Path) -> dict[int, str]:
    """Reads answers: `question_id`, and `answer` or (as LLaVA writes it) `text`.

    Raises:
        ValueError: a row lacks a field or an id occurs twice; the message gives file and line.
            Answers without ids, which rely on the questions' order, are refused.
    """
    answers: dict[int, str] = {}
    for place, row in _rows(path, ("question_id",)):
        text = row.get("answer", row.get("text"))
        if not isinstance(text, str):
            raise ValueError(f'{place} has no "answer": add what the model said')
        answers[_new_id(row["question_id"], answers, place)] = text
    return answers


def save_answers(answers: Iterable[tuple[int, str]], path: Path) -> None:
    """Writes pairs of question id and answer."""
    _write(path, ({"question_id": number, "answer": text} for number, text in answers))


def _rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows with their places ("file:line"), of which there is at least one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not any(map(str.strip, lines)):
        raise ValueError(f"{path} is empty: give one JSON object a line")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}:{number}", _row(line, f"{path}:{number}", fields)


def _row(line: str, place: str, fields: tuple[str, ...]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place} is no JSON object: give one a line")
    missing = [field for field in fields if field not in row]
    if missing:
        raise ValueError(
            f"{place} has no {', '.join(missing)}: add {'it' if len(missing) == 1 else 'them'}"
        )
    return row


def _new_id(value: object, known: Iterable[int], place: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise ValueError(f"{place}: question_id is {value!r}: write a whole number") from None
    if number in known:
        raise ValueError(f"{place}: question_id {number} occurs twice: keep one row")
    return number


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
