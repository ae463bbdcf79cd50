"""The page: self-contained, escaped, and honest in its headline."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sightline_eval.bootstrap import Estimate
from sightline_eval.histogram import Series, draw_histogram
from sightline_eval.page import headline, render_page

VOID = {"meta", "img", "br", "link", "input"}


class Structure(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(demo):
    return render_page(demo)


def test_what_a_caption_says_is_text_and_never_markup(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert "<b>dog" not in page


def test_the_page_is_well_formed_and_loads_nothing(page):
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert structure.tags.count("article") == 12
    assert all(link.startswith("data:image/png;base64,") for link in structure.links)
    assert "http" not in re.sub(r"scored over HTTP", "", page)


def test_no_placeholder_is_left(page):
    assert not re.search(r"\$[a-z]", page)


def test_words_carry_their_reward_and_the_truth(page):
    assert re.search(r'<mark class="up" style="--a:0\.\d\d" title="[^"]*in the picture">', page)
    assert re.search(r'<mark class="down wrong"[^>]*NOT in the picture">', page)


@pytest.mark.parametrize(
    ("gap", "beginning"),
    [
        (Estimate(0.25, 0.20, 0.30), "A word's reward tells hallucinations better"),
        (Estimate(0.01, -0.02, 0.04), "A word's reward and a caption's score tell"),
        (Estimate(-0.25, -0.30, -0.20), "Here a caption's score tells hallucinations better"),
        (Estimate(None, None, None), "Too few scenes"),
    ],
)
def test_the_headline_says_what_was_measured(demo, gap, beginning):
    findings = replace(demo.findings, gap={"pooled": gap, "paired": gap})
    assert headline(findings).startswith(beginning)


def test_a_histogram_puts_the_mean_where_it_belongs():
    svg = draw_histogram(
        Series("right", "up", [10.0, 30.0]), Series("wrong", "down", [0.0]), axis="score"
    )
    # values span 0..30 over 520 units: the means lie at 20/30 and at 0
    assert 'class="mean up" x1="346.7"' in svg
    assert 'class="mean down" x1="0.0"' in svg


def test_a_histogram_of_nothing_says_so():
    empty = Series("right", "up", [])
    assert "nothing to draw" in draw_histogram(empty, empty, axis="score")
