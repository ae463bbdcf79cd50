import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightline import cli
from sightline.drawing import draw_boxes
from sightline_proto import Detection


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (100, 100), "white").save(path)
    return path


@pytest.fixture
def ground(live, capsys, monkeypatch):
    monkeypatch.setenv("REWARD_URL", live.url)

    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.main(["ground", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_boxes_are_listed_and_drawn(ground, image, tmp_path):
    out = tmp_path / "boxes.png"
    status, shown, _ = ground(image, "--phrase", "dog", "--phrase", "cat", "--out", out)
    assert status == 0
    assert shown.splitlines() == [str(image), "  0.83  dog  [41, 41, 91, 91]"]
    with PIL.Image.open(out) as drawn:
        assert drawn.size == (100, 100)
        assert drawn.getpixel((91, 70)) == (0x00, 0x72, 0xB2)
        assert drawn.getpixel((70, 80)) == (255, 255, 255)


def test_a_text_is_searched_for_its_objects(ground, image):
    status, shown, _ = ground(image, "--text", "Two dogs.", "--json", "--box-threshold", "0.1")
    assert status == 0
    result = json.loads(shown)
    assert [found["phrase"] for found in result["detections"]] == ["dog"]
    assert result["context"].startswith("dog [0.41")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --phrase --text is required"),
        (["--phrase", "a", "--text", "b"], "not allowed with argument"),
        (["--phrase", "a", "--out", "boxes.xyz"], "no image format has this ending"),
        (["--phrase", "a", "--max-boxes", "1.5"], "invalid int value"),
    ],
)
def test_wrong_usage_is_explained(ground, image, arguments, message):
    status, _, err = ground(image, *arguments)
    assert status == 2
    assert message in err


def test_an_unreadable_image_is_one_line(ground, image):
    status, _, err = ground(image.with_name("gone.png"), "--phrase", "dog")
    assert (status, err.count("\n")) == (1, 1)
    assert "gone.png' cannot be read" in err


def test_an_argument_that_no_service_takes_is_one_line(ground, image):
    status, _, err = ground(image, "--phrase", "dog", "--box-threshold", "7")
    assert (status, err.count("\n")) == (1, 1)
    assert "box_threshold: Input should be less than or equal to 1, got 7.0" in err


def test_boxes_follow_the_upright_photograph():
    photograph = PIL.Image.new("RGB", (40, 20), "white")
    photograph.getexif()[0x0112] = 6
    found = Detection(
        phrase="x", label="x", score=1, box=(0, 0.5, 1, 1), box_pixels=(0, 20, 20, 40)
    )
    drawn = np.asarray(draw_boxes(photograph, [found]))
    assert drawn.shape == (40, 20, 3)
    assert (drawn[:20] == 255).all()
    assert (drawn[-1] == (0x00, 0x72, 0xB2)).all()


def test_each_phrase_has_its_colour_and_the_best_box_lies_on_top():
    image = PIL.Image.new("RGB", (60, 60), "white")
    boxes = [
        Detection(phrase=name, label=name, score=s, box=(0, 0, 1, 1), box_pixels=(0, 0, 59, 59))
        for name, s in (("a", 0.9), ("b", 0.8))
    ]
    assert draw_boxes(image, boxes).getpixel((30, 59)) == (0x00, 0x72, 0xB2)
    assert draw_boxes(image, []).getpixel((30, 59)) == (255, 255, 255)
