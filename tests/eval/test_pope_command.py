"""`sightline pope` on files."""

import json

import pytest

from sightline_eval.pope_command import main

LABELS = {1: "yes", 2: "no", 3: "yes", 4: "no"}
SAID = {1: "Yes.", 2: "yes", 3: "No, there is not.", 4: "no"}


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def arguments(tmp_path):
    asked = [
        {"question_id": n, "image": f"{n}.png", "text": "Is there a dog?", "label": label}
        for n, label in LABELS.items()
    ]
    answers = [{"question_id": n, "answer": text} for n, text in SAID.items()]
    questions = write(tmp_path / "questions.jsonl", asked)
    return [f"--questions=random={questions}", f"--answers=random={write(tmp_path / 'a', answers)}"]


def test_one_split_by_hand(arguments, capsys):
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    # one true yes, one false yes, one true no, one false no
    for split in ("random", "overall"):
        found = [printed[split][name]["value"] for name in ("accuracy", "recall", "f1")]
        assert found == [0.5, 0.5, 0.5]


def test_the_reading_of_lmms_eval_leaves_out_what_is_no_bare_answer(arguments, capsys):
    assert main([*arguments, "--json", "--mode=lmms-eval"]) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert overall["n_unread"] == 2
    assert overall["accuracy"]["value"] == 0.25


def test_logs_of_lmms_eval_are_read_by_their_names(tmp_path, capsys):
    for task, said in (("pope_random", "yes"), ("pope_adv", "no")):
        entry = {"question_id": 7, "ground_truth": "yes"}
        row = {"doc_id": 0, "filtered_resps": [said], "pope_accuracy": entry}
        write(tmp_path / f"20260101_000000_samples_{task}.jsonl", [row])
    logs = sorted(map(str, tmp_path.iterdir()))
    assert main(["--json", "--samples", *logs]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {split: found["recall"]["value"] for split, found in printed.items()} == {
        "random": 1.0,
        "adversarial": 0.0,
        "overall": 0.5,
    }
    assert main(["--samples", logs[0], logs[0]]) == 1
    assert "two logs of the split adversarial" in capsys.readouterr().err


def test_the_table_is_for_people(arguments, capsys):
    assert main(arguments) == 0
    assert "50.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "give --questions with --answers, or --samples"),
        (["--questions=random=q"], "give --questions with --answers, or --samples"),
        (["--samples=x", "--questions=random=q"], "give --questions with --answers, or --samples"),
        (["--questions=q", "--answers=random=a"], "write SPLIT=FILE"),
        (["--questions", "random=q", "random=p", "--answers=random=a"], "random twice"),
    ],
)
def test_wrong_usage_names_the_option(given, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert said in capsys.readouterr().err


def test_a_missing_file_is_one_line(capsys):
    assert main(["--questions=random=/nowhere", "--answers=random=/nowhere"]) == 1
    assert "sightline pope:" in capsys.readouterr().err
