"""The COCO files: valid, consistent with the pictures, with COCO's own category ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sightline_world import coco
from sightline_world.__main__ import main
from sightline_world.captions import mentioned
from sightline_world.scenes import scene

SOME_COCO_IDS = {"person": 1, "stop sign": 13, "dog": 18, "hot dog": 58, "tv": 72, "toothbrush": 90}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    coco.write(out, 12, split="validation")
    return out


def test_every_image_is_listed_once_and_lies_there(folder: Path) -> None:
    images = json.loads((folder / "instances.json").read_text())["images"]
    assert [image["id"] for image in images] == list(range(1, 13))
    for index, image in enumerate(images):
        with Image.open(folder / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (192, 192)
            assert picture.tobytes() == scene("validation", index).image.tobytes()


def test_instances_carry_the_boxes_of_the_scenes(folder: Path) -> None:
    content = json.loads((folder / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    assert len(names) == 67
    ids = [one["id"] for one in content["annotations"]]
    assert len(set(ids)) == len(ids)
    found = [
        (one["image_id"], names[one["category_id"]], one["bbox"], one["area"])
        for one in content["annotations"]
    ]
    expected = [
        (index + 1, thing.name, [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1))
        for index in range(12)
        for thing in scene("validation", index).layout.objects
        for x1, y1, x2, y2 in [thing.box]
    ]
    assert found == expected


def test_category_ids_are_those_of_coco(folder: Path) -> None:
    categories = json.loads((folder / "instances.json").read_text())["categories"]
    ids = {c["name"]: c["id"] for c in categories}
    assert {name: ids[name] for name in SOME_COCO_IDS} == SOME_COCO_IDS


def test_captions_are_faithful_to_their_images(folder: Path) -> None:
    content = json.loads((folder / "captions.json").read_text())
    assert len(content["annotations"]) == 12
    for one in content["annotations"]:
        layout = scene("validation", one["image_id"] - 1).layout
        assert set(mentioned(one["caption"])) == set(layout.names)


def test_the_command_writes_scenes_and_explains_bad_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scenes", "--count", "2", "--seed", "3", "--out", str(tmp_path)]) == 0
    assert "wrote 2 scenes of the test split" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "captions.json",
        "images",
        "instances.json",
    ]
    assert main(["scenes", "--count", "0", "--out", str(tmp_path)]) == 1
    assert "count must be at least 1, got 0" in capsys.readouterr().err


def test_the_command_explains_an_unwritable_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["scenes", "--count", "1", "--out", str(blocked)]) == 1
    assert "sightline world: error:" in capsys.readouterr().err
