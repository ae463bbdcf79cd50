"""Referring expressions on the world."""

import numpy as np
import pytest

from sightline_eval.caption_metrics import score_captions
from sightline_eval.captions import Caption
from sightline_eval.referring import box_in_red, build_regions, expressions
from sightline_world.captions import PLACES, mentioned, place
from sightline_world.scenes import SceneObject, scenes


def test_an_object_is_named_with_its_place():
    assert expressions(SceneObject("dog", (0, 90, 40, 110))) == (
        "the dog on the left",
        "a dog on the left",
        "dog on the left",
        "left dog",
    )
    assert expressions(SceneObject("skis", (80, 0, 112, 30)))[1] == "skis at the top"


def test_every_object_of_every_scene_is_one_region():
    drawn = list(scenes("test", 4))
    regions = build_regions(drawn)
    assert [region.id for region in regions] == list(range(len(regions)))
    assert [(region.scene, region.name) for region in regions] == [
        (scene.index, name) for scene in drawn for name in scene.layout.names
    ]
    for region in regions:
        assert region.box == drawn[region.scene].layout.box(region.name)
        assert {mentioned(text) for text in region.references} == {(region.name,)}
        assert place(region.box) in PLACES


def test_the_box_is_drawn_inside_its_bounds_and_nowhere_else():
    scene = next(iter(scenes("test", 1)))
    box = scene.layout.objects[0].box
    marked = np.asarray(box_in_red(scene.image, box))
    changed = (marked != np.asarray(scene.image)).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box
    assert not changed[box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2].any()
    assert (marked[changed] == (255, 0, 0)).all()


def test_naming_the_object_scores_higher_than_another_and_a_paragraph_scores_near_nothing():
    regions = build_regions(scenes("test", 15))
    references = {region.id: region.references for region in regions}

    def cider(describe):
        captions = [Caption(region.id, describe(region)) for region in regions]
        return score_captions(captions, references, resamples=2).cider.value

    right = cider(lambda region: f"the {region.name} {place(region.box)}")
    bare = cider(lambda region: f"a {region.name}")
    wrong = cider(lambda region: f"the {regions[region.id - 1].name} {place(region.box)}")
    paragraph = cider(lambda region: f"The image shows a {region.name} and many other things. " * 3)
    assert right > 2 * bare > bare > wrong > paragraph
    assert right == pytest.approx(7, abs=1.5)
    assert paragraph < 0.01
