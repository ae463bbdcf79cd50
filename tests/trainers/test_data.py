import json

import PIL.Image
import pytest

from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_world.captions import DESCRIBE
from sightline_world.scenes import scene


@pytest.fixture
def picture(tmp_path):
    PIL.Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    return tmp_path


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_a_jsonl_row_may_leave_its_prompt_to_the_configuration(picture):
    lines = '{"image": "a.png", "prompt": "What is it?"}\n\n{"image": "a.png"}\n'
    rows = read_rows(DataConfig(path=write(picture, "p.jsonl", lines), prompt="Say."))
    assert [row.prompt for row in rows] == ["What is it?", "Say."]
    assert rows[1].origin.endswith("p.jsonl:3")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": "a.png"', "not JSON"),
        ('{"image": "missing.png"}', "there is no file"),
        ('{"prompt": "What?"}', '"image" is None'),
        ('{"image": "a.png", "prompt": 3}', '"prompt" is 3'),
        ("[1]", "not an object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(picture, line, said):
    path = write(picture, "p.jsonl", '{"image": "a.png"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"p\.jsonl:2") as caught:
        read_rows(DataConfig(path=path))
    assert said in str(caught.value)


def test_lines_beyond_the_limit_are_not_even_read(picture):
    path = write(picture, "p.jsonl", '{"image": "a.png"}\nnot json\n')
    assert len(read_rows(DataConfig(path=path, limit=1))) == 1


def test_llava_instruct_gives_each_first_question_without_its_marker(picture):
    records = [
        {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhere?"}]},
        {"conversations": [{"from": "human", "value": "No image here"}]},
        {"image": "a.png", "conversations": [{"from": "human", "value": "Who?\n<image>"}]},
    ]
    path = write(picture, "llava.json", json.dumps(records))
    rows = read_rows(DataConfig(format="llava", path=path))
    assert [row.prompt for row in rows] == ["Where?", "Who?"]


def test_a_conversation_without_a_question_is_named_by_its_place(picture):
    path = write(picture, "llava.json", json.dumps([{"image": "a.png", "conversations": []}]))
    with pytest.raises(ValueError, match=r"llava\.json\[0\].*human"):
        read_rows(DataConfig(format="llava", path=path))


def test_the_worlds_rows_are_its_scenes():
    config = DataConfig(format="world", limit=2, world_split="validation", world_start=5)
    rows = read_rows(config)
    image, data = load_image(rows[1])
    assert image.tobytes() == scene("validation", 6).image.tobytes()
    assert data.startswith(b"\x89PNG")
    assert rows[1].prompt == DESCRIBE


def test_the_policy_sees_the_picture_upright_and_the_service_gets_the_file(tmp_path):
    image = PIL.Image.new("RGB", (8, 6), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    rows = read_rows(DataConfig(path=write(tmp_path, "p.jsonl", '{"image": "turned.jpg"}\n')))
    seen, data = load_image(rows[0])
    assert seen.size == (6, 8)
    assert data == (tmp_path / "turned.jpg").read_bytes()


def test_a_file_that_is_no_image_is_named_with_its_row(tmp_path):
    write(tmp_path, "a.png", "text")
    rows = read_rows(DataConfig(path=write(tmp_path, "p.jsonl", '{"image": "a.png"}\n')))
    with pytest.raises(ValueError, match=r"p\.jsonl:1.*a\.png"):
        load_image(rows[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": "world"}, "limit"),
        ({"format": "world", "limit": 1, "path": "x"}, "remove path"),
        ({"format": "jsonl"}, "needs a path"),
        ({"path": "x", "limit": 0}, "limit is 0"),
    ],
)
def test_impossible_sources_are_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        DataConfig(**fields)
