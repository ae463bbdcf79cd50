import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_core.coco import COCO_NAMES
from sightline_core.entities import Span, Vocabulary, find_spans, load_vocabulary, verifier_text
from sightline_core.vocabulary_file import Form, folded

VOCABULARY = load_vocabulary()


def found(text: str) -> list[tuple[str, str]]:
    return [(span.text, span.entity) for span in find_spans(text, VOCABULARY)]


def entities(text: str) -> list[str]:
    return [span.entity for span in find_spans(text, VOCABULARY)]


def test_the_first_eighty_names_are_cocos_and_name_themselves():
    assert len(COCO_NAMES) == 80
    assert VOCABULARY.names[:80] == COCO_NAMES
    for name in COCO_NAMES:
        assert VOCABULARY.canonical(name) == name
        assert entities(f"There is a {name}.") == [name]


def test_the_vocabulary_is_of_the_papers_size():
    assert len(VOCABULARY.names) == len(set(VOCABULARY.names)) >= 1000
    assert len(VOCABULARY.forms) >= 3900
    assert all(entity == VOCABULARY.canonical(entity) for entity in VOCABULARY.names)


def test_the_chair_example_without_its_quirks():
    text = "A man rides a motor bike next to two hot dogs and a baby elephant."
    assert found(text) == [
        ("man", "person"),
        ("motor bike", "motorcycle"),
        ("hot dogs", "hot dog"),
        ("baby elephant", "elephant"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hot dog", ["hot dog"]),
        ("a dog, hot, and a hot, dog", ["dog", "dog"]),
        ("Served hot. Dogs ran.", ["dog"]),
        ("a teddy bear and a bear", ["teddy bear", "bear"]),
        ("TRAFFIC LIGHTS", ["traffic light"]),
        ("traffic\n  light", ["traffic light"]),
        ("hot\u00a0dog, hot-dog, hot\u2011dog, hot_dog", ["hot dog"] * 4),
        ("the dog's bowl, the dogs\u2019 bowls", ["dog", "bowl", "dog", "bowl"]),
        ("knives, mice, people, women, children, geese, wolves, buses, couches", [
            "knife", "mouse", "person", "person", "person", "bird", "wolf", "bus", "couch"]),
        ("two skis, one ski, scissors, a pair of scissors, sheep", [
            "skis", "skis", "scissors", "scissors", "sheep"]),
        ("glasses of wine, wine glasses, wineglass", ["wine glass"] * 3),
        ("sofa, aeroplane, fridge, doughnut, mobile phone, television", [
            "couch", "airplane", "refrigerator", "donut", "cell phone", "tv"]),
        ("a goat, a wallet and a bagel", ["goat", "wallet", "bagel"]),
        ("a tee shirt, a T-shirt, Ferris wheels, a crab, tin cans", [
            "jersey", "jersey", "ferris wheel", "crab", "tin can"]),
        ("hotdogs skateboards surfboarding category dogma person1", ["hot dog", "skateboard"]),
        ("dog-friendly, man-made, a guide-dog, a dog--barking--ran", ["dog", "dog"]),
        ("zebra crossing, train tracks, table tennis, a roller coaster, a cup holder", []),
        ("the zebra at the zebra crossing", ["zebra"]),
        ("He can watch the date slide by, cover the pitcher, and bow.", []),
    ],
)  # fmt: skip
def test_names_are_found_as_they_are_written(text, expected):
    assert entities(text) == expected


@pytest.mark.parametrize(
    ("text", "fruits"),
    [
        ("an orange cat and an orange", 1),
        ("orange and white stripes", 0),
        ("an orange and a banana", 1),
        ("The vest is orange. A bright orange sunset.", 0),
        ("oranges; dog, orange, car", 2),
        ("an orange on a plate, orange slices, the orange.", 3),
        ("Is there an orange in the image? The orange's peel.", 2),
        ("a lime green wall, a peach dress, a peach", 0),
    ],
)
def test_a_colour_is_no_fruit(text, fruits):
    assert entities(text).count("orange") == fruits


def test_other_fruits_are_colours_too():
    assert entities("a lime green chair, a peach dress, a peach and a lime") == [
        "chair",
        "dress",
        "peach",
        "lime",
    ]


def test_marks_belong_to_words_and_offsets_are_code_points_of_the_text_as_given():
    text = (
        "\u0130\u00df \U0001f436dog\u200d\U0001f436 do\u0301g dog\u0301 dog\ufe0f "
        "CAF\u00c9 e\u0301-chair \ufb01sh \U0001f1ec\U0001f1e7bird"
    )
    spans = find_spans(text, VOCABULARY)
    assert [span.text for span in spans] == ["dog", "dog", "chair", "\ufb01sh", "bird"]
    assert all(text[span.start : span.end] == span.text for span in spans)
    assert spans[0].start == 4
    assert spans[1].start == text.index("dog\ufe0f")


def test_composed_and_decomposed_spellings_are_one():
    vocabulary = VOCABULARY.with_extra(["caf\u00e9", "stra\u00dfe"])
    text = "CAFE\u0301 caf\u00e9 Caf\u00e9s cafe STRASSE"
    assert [(s.text, s.entity) for s in find_spans(text, vocabulary)] == [
        ("CAFE\u0301", "caf\u00e9"),
        ("caf\u00e9", "caf\u00e9"),
        ("Caf\u00e9s", "caf\u00e9"),
        ("STRASSE", "stra\u00dfe"),
    ]


FORMS = {
    "hot dog": "hot dog",
    "dog": "dog",
    "hot": "heat",
    "dog bowl": "bowl",
    "a hot dog bowl": "dish",
}
SMALL = Vocabulary({form: Form(entity, form) for form, entity in FORMS.items()})


def slow(text: str) -> list[tuple[int, int, str]]:
    """The longest form at each place, by trying every form at every place."""
    spans, position = [], 0
    plain = text.lower().replace("\n", " ")
    while position < len(text):
        fitting = [
            form
            for form in FORMS
            if plain.startswith(form, position)
            and not plain[position + len(form) : position + len(form) + 1].isalnum()
            and not plain[max(0, position - 1) : position].isalnum()
        ]
        form = max(fitting, key=len, default="")
        if form:
            spans.append((position, position + len(form), FORMS[form]))
        position += len(form) or 1
    return spans


word = st.sampled_from(["hot", "dog", "bowl", "a", "Dog", "HOT", "dogs", "1dog", "hotdog"])
gap = st.sampled_from([" ", " ", " ", "\n", ", ", ". "])


@settings(max_examples=300)
@given(st.lists(st.tuples(word, gap).map("".join), max_size=25).map("".join))
def test_the_longest_phrase_wins_as_in_the_slow_reference(text):
    spans = find_spans(text, SMALL)
    assert [(span.start, span.end, span.entity) for span in spans] == slow(text)


@settings(max_examples=300)
@given(
    st.lists(
        st.text(max_size=5)
        | st.sampled_from(["dog", "hot", " ", "dogs", "traffic light", "'s", "-"]),
        max_size=30,
    ).map("".join)
)
def test_spans_of_any_text_are_in_order_and_quote_it(text):
    position = 0
    for span in find_spans(text, VOCABULARY):
        assert position <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == span.text
        assert span.entity == VOCABULARY.canonical(span.text)
        position = span.end


@pytest.mark.parametrize(
    ("surface", "entity", "singular"),
    [
        ("Puppies", "dog", "puppy"),
        ("hot-dogs", "hot dog", "hot dog"),
        ("Tvs", "tv", "tv"),
        ("men", "person", "man"),
        ("home plates", "home plate", "home plate"),
        ("zebra crossing", None, None),
        ("unicorn", None, None),
        ("", None, None),
    ],
)
def test_a_phrase_has_its_object_and_its_singular(surface, entity, singular):
    assert VOCABULARY.canonical(surface) == entity
    assert VOCABULARY.singular(surface) == singular


def test_extra_names_add_to_the_vocabulary_and_change_no_meaning():
    more = VOCABULARY.with_extra(["unicorn", "Sea_monster_(beast)", "sofa", "zebra crossing"])
    text = "Unicorns, a sea monster, sofas, zebra crossings"
    assert [span.entity for span in find_spans(text, more)] == [
        "unicorn",
        "sea monster",
        "couch",
        "zebra crossing",
    ]
    assert VOCABULARY.canonical("unicorn") is None
    assert more.names == (*VOCABULARY.names, "unicorn", "sea monster", "zebra crossing")


@pytest.mark.parametrize("name", ["", "  ", "(weapon)", "__", "!"])
def test_an_extra_name_without_a_word_is_refused(name):
    with pytest.raises(ValueError, match="names holds"):
        VOCABULARY.with_extra([name])


def test_what_the_verifier_is_asked_is_the_form_as_written_in_lower_case():
    assert verifier_text(Span("Hot\n  DOGS", "hot dog", 0, 10)) == "hot dogs"
    (span,) = find_spans("a Teddy-Bear", VOCABULARY)
    assert verifier_text(span) == "teddy-bear"


def test_slurs_and_words_of_other_senses_are_not_in_the_vocabulary():
    left_out = (
        "bow arrow band bat can watch slide cover clip lighter roll date file tag pet cock "
        "ass pouf gag flasher foreigner thief offender male female cook steer "
        "fan glass leather key light"
    )
    assert [word for word in left_out.split() if VOCABULARY.canonical(word)] == []


def test_every_phrase_has_one_key():
    assert all(folded(key) == key for key in VOCABULARY.forms)


@pytest.mark.parametrize(
    "part",
    [
        "Two hot dogs and a teddy bear, ",
        "hot ",
        "a\u0301",
        "a-",
        "traffic\n",
        "\U0001f436",
        "slice of ",
    ],
)
def test_long_texts_are_quick(part):
    text = (part * 20_000)[:20_000]
    start = time.perf_counter()
    find_spans(text, VOCABULARY)
    assert time.perf_counter() - start < 1.0  # 20 ms on an idle core


def test_loading_needs_neither_inflect_nor_long():
    code = (
        "import sys, time; from sightline_core.entities import load_vocabulary;"
        "start = time.perf_counter(); load_vocabulary(); took = time.perf_counter() - start;"
        "assert 'inflect' not in sys.modules; assert took < 1.0, took"  # 30 ms on an idle core
    )
    subprocess.run([sys.executable, "-c", code], check=True)
