"""POPE's files: what is read, written and refused."""

import json

import pytest

from sightline_eval.pope_files import load_answers, load_questions, save_answers, save_questions
from sightline_eval.pope_questions import Question

GOOD = '{"question_id": 1, "image": "a.jpg", "text": "Is there a cup in the image?", "label": "no"}'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "split.json"


def test_questions_are_written_in_popes_format_and_read_again(path):
    questions = (Question(1, "a.jpg", "Is there an oven?", True), Question(2, "é.jpg", "?", False))
    save_questions(questions, path)
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first == {
        "question_id": 1, "image": "a.jpg", "text": "Is there an oven?", "label": "yes",
    }  # fmt: skip
    assert load_questions(path) == questions


def test_rows_of_published_files_are_read(path):
    row = {"question_id": "7", "image": "a.jpg", "image_id": 3, "text": "?", "label": "yes"}
    path.write_text(f"\n{json.dumps(row)}\n")
    assert load_questions(path) == (Question(7, "a.jpg", "?", True),)


def test_answers_are_read_in_both_forms_and_written(path):
    path.write_text('{"question_id": 2, "text": "Yes"}\n{"question_id": "1", "answer": "No."}\n')
    assert load_answers(path) == {2: "Yes", 1: "No."}
    save_answers([(5, "Ja")], path)
    assert load_answers(path) == {5: "Ja"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (GOOD + "\n{", r"split.json:2 is not JSON"),
        (GOOD + "\n\n[]", r"split.json:3 is no JSON object"),
        ('{"question_id": 1, "image": "a"}', r"split.json:1 has no text, label: add them"),
        (GOOD.replace('"no"', '"No"'), r"split.json:1: label is 'No'"),
        (GOOD + "\n" + GOOD, r"split.json:2: question_id 1 occurs twice"),
        (GOOD.replace("1", '"x"'), r"split.json:1: question_id is 'x'"),
    ],
)
def test_a_bad_question_is_named_with_file_and_line(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_questions(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"answer": "Yes"}', r"split.json:1 has no question_id: add it"),
        ('{"question_id": 1}', r'split.json:1 has no "answer"'),
        ('{"question_id": 1, "answer": true}', r'split.json:1 has no "answer"'),
    ],
)
def test_a_bad_answer_is_named_with_file_and_line(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_answers(path)
