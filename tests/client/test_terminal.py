import io

import pytest

from sightline.terminal import Page, coloured, marked, style_of
from sightline_proto import (
    Detection,
    SentenceRewardResult,
    SentenceScore,
    SpanReward,
    TokenRewardResult,
)

TEXT = "A dog, a cat."


def span(text: str, start: int, reward: float | None) -> SpanReward:
    verdict = None if reward is None else ("supported" if reward > 0 else "hallucinated")
    return SpanReward(
        text=text,
        entity=text,
        start=start,
        end=start + len(text),
        cosine=0.25,
        score=25.0,
        reward=reward,
        verdict=verdict,
    )


SPANS = (span("dog", 2, 0.61), span("cat", 9, -0.2))


@pytest.fixture
def page(monkeypatch):
    def make(*, colour: bool) -> tuple[Page, io.StringIO]:
        for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        if colour:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("TERM", "xterm-256color")
            monkeypatch.delenv("COLORTERM", raising=False)
        stream = io.StringIO()
        return Page(stream), stream

    return make


@pytest.mark.parametrize(
    ("reward", "colour", "bold"),
    [(1.0, "green", True), (0.2, "green", False), (-0.2, "red", False), (-0.5, "red", True)],
)
def test_green_is_above_zero_red_below_and_bold_from_a_half(reward, colour, bold):
    style = style_of(reward)
    assert style.color is not None
    assert (style.color.name, bool(style.bold)) == (colour, bold)


def test_a_neutral_word_has_no_colour_and_one_without_reward_its_own():
    assert style_of(0.0).color is None
    unjudged = style_of(None).color
    assert unjudged is not None
    assert unjudged.name == "cyan"


def test_exactly_the_spans_are_coloured():
    line = coloured(TEXT, SPANS)
    assert line.plain == TEXT
    assert [(part.start, part.end) for part in line.spans] == [(2, 5), (9, 12)]


def test_without_colour_the_rewards_stand_in_the_text():
    assert marked(TEXT, SPANS).plain == "A [dog +0.61], a [cat -0.20]."
    assert marked("A dog", [span("dog", 2, None)]).plain == "A [dog 25.0]"
    assert marked("nothing", []).plain == "nothing"


def test_plain_output_holds_no_escape_and_coloured_output_does(page):
    result = TokenRewardResult(spans=SPANS, token_rewards=None, truncated=True)
    plain, stream = page(colour=False)
    plain.tokens(TEXT, result)
    plain.legend()
    assert not plain.coloured
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines() == [
        "A [dog +0.61], a [cat -0.20].",
        "  dog  score  25.00  reward +0.61  supported",
        "  cat  score  25.00  reward -0.20  hallucinated",
        "  (cut at the model's context length)",
        "  [word reward] from -1 (hallucinated) to +1; score = 100 x cosine",
    ]
    bright, stream = page(colour=True)
    bright.tokens(TEXT, result)
    bright.legend()
    assert bright.coloured
    assert "A \x1b[1;32mdog\x1b[0m, a \x1b[31mcat\x1b[0m." in stream.getvalue()
    assert "supported" in stream.getvalue()


def test_a_caption_can_neither_steer_the_terminal_nor_rich(page):
    plain, stream = page(colour=False)
    text = "\x1b]0;owned\x07 [bold]dog[/bold] \x9b31m"
    plain.tokens(text, TokenRewardResult(spans=(), token_rewards=None, truncated=False))
    shown = stream.getvalue()
    assert "[bold]dog[/bold]" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)


def test_a_long_line_is_not_broken(page):
    plain, stream = page(colour=False)
    plain.tokens("word " * 100, TokenRewardResult(spans=(), token_rewards=None, truncated=False))
    assert stream.getvalue().splitlines() == ["word " * 100, "  no object words"]


def test_sentences_and_detections(page):
    plain, stream = page(colour=False)
    sentence = SentenceScore(text="A dog. ", start=0, end=7, cosine=0.2, score=20, normalized=1)
    result = SentenceRewardResult(
        cosine=0.25, score=25, calibrated=0.5, sentences=(sentence,), truncated=False
    )
    plain.sentences("A dog. ", result, with_text=False)
    box = Detection(
        phrase="hot dog", label="hot dog", score=0.8, box=(0, 0, 1, 1), box_pixels=(0, 1.6, 20, 30)
    )
    plain.detections([box])
    plain.detections([])
    assert stream.getvalue().splitlines() == [
        "  text      score  25.00  calibrated 0.500",
        "  sentence  score  20.00  A dog.",
        "  0.80  hot dog  [0, 2, 20, 30]",
        "  nothing found",
    ]
