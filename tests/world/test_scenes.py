"""Scenes: reproducible alone, truthful boxes, little overlap, honest absent objects."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline_world import scenes as module
from sightline_world.categories import CATEGORIES, NAMES, SCENE_TYPES, category, prior, scene_type
from sightline_world.scenes import (
    MAX_OVERLAP,
    SIZE,
    Layout,
    SceneObject,
    absent,
    absent_weights,
    overlap,
    scene,
    scenes,
)
from sightline_world.splits import SPLITS, stream
from sightline_world.sprites import sprite


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_a_scene_made_alone_equals_the_same_scene_in_a_series() -> None:
    series = list(scenes("validation", 4, start=3))
    for one in series:
        again = scene("validation", one.index)
        assert again == one
        assert _digest(again.image) == _digest(one.image)


def test_the_splits_share_no_picture() -> None:
    pictures = [_digest(one.image) for split in SPLITS for one in scenes(split, 15)]
    assert len(set(pictures)) == len(pictures)
    assert _digest(scene("test", 0).image) != _digest(scene("test", 0, seed=1).image)


def test_objects_lie_inside_the_picture_and_overlap_little() -> None:
    for one in scenes("calibration", 60):
        assert 1 <= len(one.layout.objects) <= 6
        assert len(set(one.layout.names)) == len(one.layout.names)
        for thing in one.layout.objects:
            x1, y1, x2, y2 = thing.box
            assert 0 <= x1 < x2 <= SIZE
            assert 0 <= y1 < y2 <= SIZE
            assert 0.1 * SIZE < max(x2 - x1, y2 - y1) < 0.6 * SIZE
        for a, b in combinations(one.layout.objects, 2):
            assert overlap(a.box, b.box) <= MAX_OVERLAP


def test_a_box_is_the_extent_of_the_visible_sprite(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted: list[tuple[tuple[int, int], Image.Image]] = []
    original = Image.Image.paste

    def spy(canvas: Image.Image, picture: Image.Image, at: tuple[int, int], mask: object) -> None:
        pasted.append((at, picture))
        original(canvas, picture, at, mask)  # type: ignore[arg-type]  # the sprite is its own mask

    monkeypatch.setattr(Image.Image, "paste", spy)
    one = module.scene("validation", 11)
    assert len(pasted) == len(one.layout.objects)
    for (at, picture), thing in zip(pasted, one.layout.objects, strict=True):
        extent = picture.getchannel("A").getbbox()
        assert extent == (0, 0, *picture.size)
        assert thing.box == (*at, at[0] + picture.width, at[1] + picture.height)


def test_overlap_is_a_share_of_the_smaller_box() -> None:
    assert overlap((0, 0, 10, 10), (5, 5, 25, 25)) == 0.25
    assert overlap((0, 0, 10, 10), (2, 2, 4, 4)) == 1.0
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def _layout(kind: str, names: list[str]) -> Layout:
    return Layout(kind, tuple(SceneObject(name, (0, 0, 10, 10)) for name in names))


@given(
    kind=st.sampled_from([s.name for s in SCENE_TYPES]),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=12, unique=True),
    hard=st.booleans(),
    seed=st.integers(0, 99),
)
def test_an_absent_object_is_never_present(
    kind: str, names: list[str], hard: bool, seed: int
) -> None:
    layout = _layout(kind, names)
    weights = absent_weights(layout, hard=hard)
    assert np.isclose(weights.sum(), 1.0)
    assert absent(layout, np.random.default_rng(seed), hard=hard) not in names


def test_a_mountain_with_all_its_likely_objects_still_has_an_absent_one() -> None:
    layout = _layout("mountain", list(scene_type("mountain").weights))
    drawn = {absent(layout, np.random.default_rng(i)) for i in range(200)}
    assert drawn.isdisjoint(layout.names)
    assert len(drawn) > 20  # uniform over what is left


def test_hard_absent_objects_are_those_that_the_scene_makes_likely() -> None:
    layout = scene("test", 5).layout
    likely = set(scene_type(layout.kind).weights) - set(layout.names)
    assert {absent(layout, np.random.default_rng(i)) for i in range(100)} <= likely


def test_priors_are_distributions_over_the_categories_of_the_scene() -> None:
    for kind in SCENE_TYPES:
        assert np.isclose(prior(kind).sum(), 1.0)
        assert {NAMES[i] for i in np.flatnonzero(prior(kind))} == set(kind.weights)
    assert np.isclose(prior(scene_type("mountain"))[NAMES.index("skis")], 5 / 19)


def test_every_category_has_a_sprite_an_own_coco_id_and_forms() -> None:
    assert len(CATEGORIES) == len({c.coco_id for c in CATEGORIES}) == 67
    assert category("sheep").noun_phrase == "a sheep"
    assert category("skis").noun_phrase == "skis"
    assert category("umbrella").noun_phrase == "an umbrella"
    assert category("knife").plural == "knives"
    for name in NAMES:
        picture = sprite(name)
        assert picture.mode == "RGBA"
        assert picture.getbbox() == (0, 0, *picture.size)
    with pytest.raises(ValueError, match="no category 'unicorn'"):
        category("unicorn")
    with pytest.raises(ValueError, match="no scene type 'moon'"):
        scene_type("moon")


def test_absent_objects_of_a_scene_are_drawn_from_its_own_stream() -> None:
    layout = scene("test", 0).layout
    first, second = (absent(layout, stream("test", 0, purpose="absent")) for _ in range(2))
    assert first == second
