from importlib.resources import files

import pytest

from sightline_core.inflection import plural
from sightline_core.surface_forms import rendered
from sightline_core.vocabulary_file import NOT_AN_OBJECT, Form, Name, forms, parse, render

FOLDER = files("sightline_core") / "entities"


def test_the_shipped_forms_are_what_the_lists_give():
    assert (FOLDER / "forms.txt").read_text(encoding="utf-8") == rendered()


@pytest.mark.parametrize("name", ["coco.txt", "lvis.txt", "not_objects.txt"])
def test_a_list_holds_each_phrase_once(name):
    phrases = [
        item.singular
        for entity, names in parse((FOLDER / name).read_text(encoding="utf-8"))
        for item in names
        if entity != "person" or item.singular != "person"  # people and persons
    ]
    twice = {p for p in phrases if phrases.count(p) > 1}
    assert twice <= {
        *("ski", "flamingo", "doberman", "squid", "burrito", "banjo", "lego", "garbanzo", "tuxedo"),
    }


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        ("knife", "knives"),
        ("mouse", "mice"),
        ("hot dog", "hot dogs"),
        ("bus", "buses"),
        ("glass of water", "glasses of water"),
    ],
)
def test_plurals_are_inflects(singular, expected):
    assert plural(singular) == expected


def test_a_file_is_read_and_written_back():
    text = "dog: dog/dogs, puppy/puppies\n-: home plate/home plates\n"
    entries = list(parse("# a comment\n\n" + text.replace("\n", "  # kinds\n")))
    assert entries == [
        ("dog", (Name("dog", "dogs"), Name("puppy", "puppies"))),
        (NOT_AN_OBJECT, (Name("home plate", "home plates"),)),
    ]
    assert render(entries) == text


def test_of_two_meanings_the_first_stands():
    entries = [("dog", [Name("husky", "huskies")]), ("corn", [Name("husky", None)])]
    assert forms(entries) == {"husky": Form("dog", "husky"), "huskies": Form("dog", "husky")}


def test_a_line_without_a_colon_is_refused():
    with pytest.raises(ValueError, match="line 2 of the vocabulary lacks a colon"):
        list(parse("dog: dog\ncat\n"))
