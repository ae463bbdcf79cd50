"""Captions name what they should and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_world.captions import (
    faithful,
    habit_object,
    habitual,
    listing,
    mentioned,
    noisy,
    place,
    question,
    short,
    swap,
)
from sightline_world.categories import NAMES, SCENE_NAMES, scene_type
from sightline_world.scenes import SIZE, Layout, SceneObject


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    corner = st.integers(0, SIZE - 40)
    objects = []
    for name in names:
        x, y = draw(corner), draw(corner)
        objects.append(SceneObject(name, (x, y, x + 40, y + 40)))
    return Layout(draw(st.sampled_from(SCENE_NAMES)), tuple(objects))


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(layout=layouts(), rng=seeds)
def test_a_faithful_caption_names_exactly_the_objects_of_the_scene(
    layout: Layout, rng: np.random.Generator
) -> None:
    text = faithful(layout, rng)
    assert set(mentioned(text)) == set(layout.names)
    sentences = text.count(".")
    assert sentences <= 5
    assert sentences >= 3 or len(layout.names) == 1


@given(layout=layouts(), rng=seeds)
def test_a_faithful_caption_goes_from_left_to_right(
    layout: Layout, rng: np.random.Generator
) -> None:
    edges = [box[0] for name in mentioned(faithful(layout, rng)) if (box := layout.box(name))]
    assert edges == sorted(edges)


@given(layout=layouts(), rng=seeds, hard=st.booleans())
def test_a_swap_changes_one_object_and_no_other_word(
    layout: Layout, rng: np.random.Generator, hard: bool
) -> None:
    pair = swap(layout, rng, hard=hard)
    assert set(mentioned(pair.faithful)) == set(layout.names)
    expected = (set(layout.names) - {pair.removed}) | {pair.inserted}
    assert set(mentioned(pair.hallucinated)) == expected
    assert pair.inserted not in layout.names
    assert pair.faithful.count(".") == pair.hallucinated.count(".")


@given(layout=layouts(), rng=seeds, keep=st.integers(1, 6))
def test_a_partial_swap_still_inserts_an_object_that_is_not_in_the_scene(
    layout: Layout, rng: np.random.Generator, keep: int
) -> None:
    pair = swap(layout, rng, keep=keep)
    assert len(mentioned(pair.faithful)) == min(keep, len(layout.names))
    assert set(mentioned(pair.hallucinated)) - set(layout.names) == {pair.inserted}


@given(layout=layouts(), rng=seeds)
def test_a_noisy_caption_without_noise_is_faithful(
    layout: Layout, rng: np.random.Generator
) -> None:
    assert set(mentioned(noisy(layout, rng, insert=0, omit=0))) == set(layout.names)
    inserted = set(mentioned(noisy(layout, rng, insert=1, omit=0))) - set(layout.names)
    assert len(inserted) == 1


@settings(max_examples=60)
@given(layout=layouts(), rng=seeds)
def test_the_habit_completes_the_usual_pair_and_only_half_pairs(
    layout: Layout, rng: np.random.Generator
) -> None:
    missing = habit_object(layout)
    pair = scene_type(layout.kind).habit
    assert (missing is not None) == (sum(name in layout.names for name in pair) == 1)
    said = set(mentioned(habitual(layout, rng, habit=1, insert=0, omit=0)))
    assert said == set(layout.names) | ({missing} if missing else set())
    assert set(mentioned(habitual(layout, rng, habit=0, insert=0, omit=0))) == set(layout.names)


def test_places_are_named_by_the_axis_along_which_a_box_is_further_out() -> None:
    assert place((0, 80, 40, 120)) == "on the left"
    assert place((150, 60, 190, 100)) == "on the right"
    assert place((80, 0, 120, 40)) == "at the top"
    assert place((70, 150, 110, 190)) == "at the bottom"
    assert place((76, 76, 116, 116)) == "in the middle"


def test_mentions_are_found_in_any_form_and_the_longest_name_wins() -> None:
    assert mentioned("Two hot dogs and a dog; a Teddy Bear, MICE.") == (
        "hot dog",
        "dog",
        "teddy bear",
        "mouse",
    )
    assert mentioned("A catalogue of carpets in a bookshop.") == ()
    assert mentioned("dogs and a dog") == ("dog",)


def test_small_phrases_read_as_english() -> None:
    assert listing(["a"]) == "a"
    assert listing(["a", "b"]) == "a and b"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert question("umbrella") == "Is there an umbrella in the image?"
    assert question("skis") == "Are there skis in the image?"
    rng = np.random.default_rng(0)
    forms = {short(["skis", "dog"], rng) for _ in range(60)}
    assert forms == {
        "A photo of skis and a dog.",
        "There are skis and a dog.",
        "skis and a dog",
        "skis, dog",
    }


def test_a_name_outside_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="no category 'dragon'"):
        question("dragon")
