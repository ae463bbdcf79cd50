"""CHAIR against hand-computed cases, slip by slip."""

import pytest

from sightline_eval.captions import Caption
from sightline_eval.chair import chair, check_caption
from sightline_eval.lexicon import load_lexicon
from sightline_eval.mentions import count_words, find_mentions

STRICT, CLEAN = load_lexicon("strict"), load_lexicon("clean")


def objects(text, lexicon):
    return [mention.object for mention in find_mentions(text, lexicon)]


def test_the_list_has_eighty_objects_and_403_words_none_of_two_objects():
    assert len(set(STRICT.objects.values())) == 80
    assert len(STRICT.objects) == 403


def test_the_example_of_the_motor_bike():
    text = "A man rides a motor bike next to two hot dogs and a baby elephant."
    assert objects(text, STRICT) == ["person", "hot dog", "elephant"]
    assert objects(text, CLEAN) == ["person", "motorcycle", "hot dog", "elephant"]


@pytest.mark.parametrize(
    ("text", "strict", "clean"),
    [
        ("A slice of cheesecake.", [], ["cake"]),
        ("An iPhone lies there.", [], ["cell phone"]),
        ("A stove top oven.", ["oven", "oven"], ["oven"]),
        ("A hot-dog.", [], ["hot dog"]),
    ],
)
def test_what_strict_mode_loses_clean_mode_finds(text, strict, clean):
    assert objects(text, STRICT) == strict
    assert objects(text, CLEAN) == clean


@pytest.mark.parametrize("lexicon", [STRICT, CLEAN], ids=["strict", "clean"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dining table.", ["dining table"]),
        ("A baby bird and an adult cow.", ["bird", "cow"]),
        ("A passenger jet over a passenger train.", ["airplane", "train"]),
        ("A man in a bow tie.", ["person", "tie"]),
        ("The toilet seat is up.", ["toilet"]),
        ("A seat by a toilet.", ["toilet"]),
        ("A seat by a door.", ["chair"]),
        ("Home plate beside the train tracks.", []),
        ("Two wine glasses, a glass and three buses.", ["wine glass", "bus"]),
        ("People, children and women with skis.", ["person"] * 3 + ["skis"]),
        ("A dog, a dog and the puppy.", ["dog", "dog", "dog"]),
        ("Teddy bears and traffic lights.", ["teddy bear", "traffic light"]),
        ("The cat's knives, TVs and scissors.", ["cat", "knife", "tv", "scissors"]),
        ("Nothing of note.", []),
        ("", []),
    ],
)
def test_both_modes_read_phrases_and_plurals(text, expected, lexicon):
    assert objects(text, lexicon) == expected


def test_character_ranges_cut_the_mention_out_of_the_text():
    text = "Zwei Bären? No: Two  HOT dogs!"
    (mention,) = find_mentions(text, CLEAN)
    assert text[mention.start : mention.end] == "HOT dogs"


def test_strict_mode_reads_indices_from_the_list_before_the_seat_was_dropped():
    text = "seat toilet dog"
    assert [mention.index for mention in find_mentions(text, STRICT)] == [0, 1]
    assert [mention.index for mention in find_mentions(text, CLEAN)] == [1, 2]


def test_further_names_are_objects_of_their_own_and_known_ones_keep_their_meaning():
    lexicon = CLEAN.with_names(["lamp", "desk lamp", "sofa"])
    assert objects("Lamps, two desk lamps and a sofa.", lexicon) == ["lamp", "desk lamp", "couch"]


def test_numbers_of_a_hand_computed_set():
    captions = [
        Caption(1, "A dog and a dog and a cat."),  # 3 mentions, 1 hallucinated, 1 of 2 recalled
        Caption(2, "A pizza."),  # 1 mention, 0 hallucinated, 1 of 1 recalled
        Caption(3, ""),  # nothing, 0 of 1 recalled
    ]
    truth = {
        1: frozenset({"dog", "person"}),
        2: frozenset({"pizza"}),
        3: frozenset({"bus"}),
    }
    scores = chair(captions, truth, CLEAN)
    assert scores.chair_s.value == 1 / 3
    assert scores.chair_i.value == 1 / 4
    assert scores.recall.value == 2 / 4
    assert scores.words.value == (8 + 2 + 0) / 3
    assert scores.objects.value == (2 + 1 + 0) / 3
    assert (scores.n_captions, scores.n_mentions, scores.n_hallucinated) == (3, 4, 1)
    assert scores.chair_s.low <= scores.chair_s.value <= scores.chair_s.high


def test_captions_that_name_nothing_score_zero():
    scores = chair([Caption(1, "Sky.")], {1: frozenset({"dog"})}, STRICT)
    assert (scores.chair_s.value, scores.chair_i.value, scores.recall.value) == (0, 0, 0)


def test_recall_is_unknown_where_nothing_is_annotated():
    scores = chair([Caption(1, "A dog.")], {1: frozenset()}, STRICT)
    assert scores.recall.value is None
    assert scores.chair_i.value == 1


def test_a_caption_without_annotations_is_refused():
    with pytest.raises(ValueError, match="image 7 has a caption but no annotations"):
        chair([Caption(7, "A dog.")], {}, CLEAN)


def test_a_hallucinated_mention_keeps_its_place():
    checked = check_caption("A dog and two cats.", frozenset({"dog"}), CLEAN)
    (mention,) = checked.hallucinated
    assert (mention.object, mention.start, mention.end) == ("cat", 14, 18)


def test_length_counts_words_without_punctuation():
    assert count_words("A well-dressed man -- or two -- waits.") == 6
