"""Ground truth and captions from files."""

import json

import pytest

from sightline_eval.annotations import load_instances, load_references
from sightline_eval.captions import Caption, load_captions
from sightline_eval.lexicon import load_lexicon

INSTANCES = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "sub/b.png"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 900, "name": "Lamp"}],
    "annotations": [{"image_id": 1, "category_id": 18}, {"image_id": 1, "category_id": 900}],
}


@pytest.fixture
def instances(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(INSTANCES))
    return path


def test_instances_give_objects_per_image_also_for_an_empty_one(instances):
    annotations = load_instances(instances)
    assert annotations.objects == {1: {"dog", "Lamp"}, 2: frozenset()}
    assert annotations.file_names == {1: "a.png", 2: "sub/b.png"}
    assert annotations.categories == ("dog", "Lamp")


def test_objects_of_reference_captions_count_as_present(instances, tmp_path):
    path = tmp_path / "captions.json"
    captions = [
        {"image_id": 2, "caption": "A man on a bike."},
        {"image_id": 2, "caption": "A puppy."},
    ]
    path.write_text(json.dumps({"annotations": captions}))
    truth = load_instances(instances).truth(load_lexicon("clean"), load_references(path))
    assert truth == {1: {"dog", "lamp"}, 2: {"person", "bicycle", "dog"}}


def test_a_file_that_is_not_coco_is_refused_with_what_it_lacks(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match="has no annotations, categories"):
        load_instances(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_instances(path)


def test_captions_name_their_image_by_id_or_by_file(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text(
        '{"image_id": 1, "caption": "A dog."}\n\n{"image": "/x/b.png", "caption": "A cat."}\n'
    )
    assert load_captions(path, {1: "a.png", 2: "sub/b.png"}) == (
        Caption(1, "A dog."),
        Caption(2, "A cat."),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"captions.jsonl:1 is not JSON"),
        ('{"caption": "A dog."}', 'needs "caption" and "image_id", or "image"'),
        ('{"image": "z.png", "caption": "A dog."}', "'z.png' not found"),
        ('{"image_id": 9, "caption": "A dog."}', "image 9 is not annotated"),
        ("[]", 'needs "caption"'),
        ("", "holds no captions"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "captions.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=message):
        load_captions(path, {1: "a.png"})
