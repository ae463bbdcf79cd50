"""`sightline chair` on files."""

import json

import pytest

from sightline_eval.chair_command import main


@pytest.fixture
def arguments(tmp_path):
    instances = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "motorcycle"}, {"id": 2, "name": "lamp"}],
        "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 2}],
    }
    references = {"annotations": [{"image_id": 2, "caption": "A dog by a lamp."}]}
    captions = [
        {"image_id": 1, "caption": "A motor bike and a cat."},
        {"image_id": 2, "caption": "A dog."},
    ]
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "references.json").write_text(json.dumps(references))
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    files = {"captions": "captions.jsonl", "instances": "instances.json"}
    return [f"--{option}={tmp_path / name}" for option, name in files.items()]


def scores(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    return [printed[name]["value"] for name in ("chair_s", "chair_i", "recall")]


def test_strict_and_clean_differ_by_the_lost_motor_bike_and_the_unknown_lamp(arguments, capsys):
    assert scores(capsys, *arguments) == [1.0, 1.0, 0.0]
    assert scores(capsys, *arguments, "--mode=clean") == [1.0, 2 / 3, 1 / 2]


def test_objects_of_reference_captions_count_as_present(arguments, capsys, tmp_path):
    more = f"--references={tmp_path / 'references.json'}"
    # the dog becomes right and is recalled: 1 of 3 mentions wrong, 2 of 3 objects named
    assert scores(capsys, *arguments, more, "--mode=clean") == [0.5, 1 / 3, 2 / 3]


def test_the_table_is_for_people(arguments, capsys):
    assert main(arguments) == 0
    assert "100.0% [100, 100]" in capsys.readouterr().out


def test_a_missing_file_is_one_line(arguments, capsys):
    assert main([*arguments, "--references=/nowhere.json"]) == 1
    assert "sightline chair:" in capsys.readouterr().err
