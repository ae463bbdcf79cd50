import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_core.sentences import _split, split_sentences


def pieces(text: str) -> list[str]:
    return [sentence.text.strip() for sentence in split_sentences(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["A dog runs.", "It is fast!", "Is it brown?", "Yes"],
        ["a dog.", "a cat sits on the left."],
        ["a dog .", "a cat ."],
        ["Mr. Smith and Dr. Jones met Mrs. Lee on St. Mark's square.", "They left."],
        ["He lives in the U.S. Army base.", "It is big."],
        ["They went to the U.S.", "The dog stayed."],
        ["We met at 5 p.m.", "People ate."],
        ["It was 5 p.m. on a Monday.", "Then it was 6 a.m. Tuesday."],
        ["J. K. Rowling holds a book.", "It is open."],
        ["It costs 3.5 dollars, or 1,234.50 in all.", "It weighs .5 kg."],
        ["See Fig. 2 and No. 5 of vol. 3.", "There is no.", "The dog left."],
        ["Fruits, e.g. apples, i.e. food, etc. are there.", "A fork vs. a knife."],
        ["Well... maybe it is a cat.", "Or not...", "The dog."],
        ["well . . . maybe so.", "Yes."],
        ["Wait\u2026 what?", "It is\u2026", "A dog."],
        ["He said \u201cA dog.\u201d", "She left."],
        ['"A dog!" he said.', '"Where?" she asked.', "(It ran.)", "[So it did.]"],
        ["A **dog.**", "A _cat!_", "The *end.*"],
        ["What?!", "No!!!", "Really?"],
        ["1. A dog.", "2. A cat.", "**3.** A bus.", "(b) A cup."],
        ["- a dog", "- a cat", "the end"],
        ["A dog.\U0001f436", "A cat.\U0001f408\u200d\u2b1b", "Done."],
        ["The cat sat.", "the dog may.", "So am I.", "Dogs bark."],
        ["It shows vitamin C.", "The label is red."],
        ["The file is image.png and the site is example.com today.", "Good."],
    ],
)
def test_each_sentence_is_found(sentences):
    joiner = "\n" if sentences[0].startswith("- ") else " "
    assert pieces(joiner.join(sentences)) == sentences


def test_wide_stops_need_no_space_but_leave_numbers_whole():
    assert pieces(
        "\u72ac\u304c\u3044\u308b\u3002\u732b\u3082\uff01\u300c\u306f\u3044\u3002\u300d\u72ac\u3002"
    ) == [
        "\u72ac\u304c\u3044\u308b\u3002",
        "\u732b\u3082\uff01",
        "\u300c\u306f\u3044\u3002\u300d",
        "\u72ac\u3002",
    ]
    assert pieces("\uff13\uff0e\uff15\u500b\u3002") == ["\uff13\uff0e\uff15\u500b\u3002"]
    assert pieces(
        "\u0915\u0941\u0924\u094d\u0924\u093e\u0964 \u092c\u093f\u0932\u094d\u0932\u0940\u0964"
    ) == [
        "\u0915\u0941\u0924\u094d\u0924\u093e\u0964",
        "\u092c\u093f\u0932\u094d\u0932\u0940\u0964",
    ]


def test_lines_end_sentences_and_keep_their_whitespace():
    text = " \n Title\n\nA dog.  \r\n\tA cat\u2028the end \n"
    assert [sentence.text for sentence in split_sentences(text)] == [
        " \n Title\n\n",
        "A dog.  \r\n\t",
        "A cat\u2028",
        "the end \n",
    ]


def test_an_empty_text_has_none_and_a_blank_one_is_one():
    assert split_sentences("") == ()
    assert [sentence.text for sentence in split_sentences(" \n\n ")] == [" \n\n "]


marks = st.sampled_from(
    [*"aA1. .!?\n\t\"')*\u2026\u3002\uff0e", "Mr", "U.S.", "\U0001f436", "\u0301", "\r\n", "e.g."]
)


@settings(max_examples=300)
@given(st.text(max_size=200) | st.lists(marks, max_size=60).map("".join))
def test_the_sentences_partition_any_text(text):
    sentences = split_sentences(text)
    assert "".join(sentence.text for sentence in sentences) == text
    position = 0
    for sentence in sentences:
        assert sentence.start == position
        assert sentence.start < sentence.end
        assert text[sentence.start : sentence.end] == sentence.text
        position = sentence.end
    if text.strip():
        assert all(sentence.text.strip() for sentence in sentences)
        assert not any(sentence.text[:1].isspace() for sentence in sentences[1:])


@settings(max_examples=300)
@given(st.text(max_size=20) | st.lists(marks, max_size=4).map("".join))
def test_a_text_with_its_only_stop_at_its_end_is_split_as_any_other(text):
    assert split_sentences(text) == _split(text)


@given(st.lists(st.integers(0, 99999).map(str), min_size=2, max_size=4).map(".".join))
def test_a_number_is_never_cut(number):
    assert pieces(f"It weighs {number} kg in all. Good.") == [
        f"It weighs {number} kg in all.",
        "Good.",
    ]


@pytest.mark.parametrize(
    "part",
    ["A dog. ", "\n", " ", ". ", ".)", "\u3002", "\U0001f436.", "e.g. ", "a\u0301.", "?\u00a0"],
)
def test_long_texts_are_quick(part):
    text = (part * 20_000)[:20_000]
    start = time.perf_counter()
    split_sentences(text + "a")
    assert time.perf_counter() - start < 1.0  # 20 ms on an idle core
