"""Scores as lines for a terminal, with colour where it has any. Knows rich; knows no service."""

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.style import Style
from rich.text import Text

from sightline_proto import (
    Detection,
    SentenceRewardResult,
    SpanReward,
    TokenRewardResult,
)

_GOOD, _BAD, _UNJUDGED = "green", "red", "cyan"
_STRONG = 0.5
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160))}
_VISIBLE = str.maketrans({**_CONTROLS, ord("\n"): "\n", ord("\t"): " "})


class Page:
    """Writes results to a stream: coloured in a terminal, marked up in plain text elsewhere.

    Args:
        stream: where to write; stdout where it is left out.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)

    @property
    def coloured(self) -> bool:
        """Whether colours will be seen."""
        console = self._console
        return console.is_terminal and console.color_system is not None and not console.no_color

    def heading(self, text: str) -> None:
        """Writes the name of what follows."""
        self._write(Text(_visible(text), style="bold"))

    def tokens(self, text: str, result: TokenRewardResult) -> None:
        """Writes the text with its object words coloured by reward, then each word's numbers."""
        self._write(coloured(text, result.spans) if self.coloured else marked(text, result.spans))
        for line in _span_lines(result.spans):
            self._write(line)
        if result.truncated:
            self._write(Text("  (cut at the model's context length)", style="dim"))

    def sentences(self, text: str, result: SentenceRewardResult, *, with_text: bool) -> None:
        """Writes the text's score and each sentence's."""
        if with_text:
            self._write(Text(_visible(text)))
        calibrated = (
            f"  calibrated {result.calibrated:.3f}" if result.calibrated is not None else ""
        )
        self._write(Text(f"  text      score {result.score:6.2f}{calibrated}"))
        for sentence in result.sentences:
            self._write(
                Text(f"  sentence  score {sentence.score:6.2f}  {_visible(sentence.text).strip()}")
            )

    def detections(self, found: Sequence[Detection]) -> None:
        """Writes one line per box: score, phrase, x1, y1, x2, y2 in pixels."""
        width = max((len(each.phrase) for each in found), default=0)
        for each in found:
            box = ", ".join(f"{edge:.0f}" for edge in each.box_pixels)
            self._write(Text(f"  {each.score:.2f}  {_visible(each.phrase):<{width}}  [{box}]"))
        if not found:
            self._write(Text("  nothing found", style="dim"))

    def legend(self) -> None:
        """Writes what the colours and numbers mean."""
        if self.coloured:
            line = Text("  ")
            for reward, meaning in ((0.8, "supported"), (0.0, "neutral"), (-0.8, "hallucinated")):
                line.append(f"{meaning}", style=style_of(reward)).append("  ")
            self._write(line.append("(reward -1 .. +1; score = 100 x cosine)", style="dim"))
        else:
            self._write(Text("  [word reward] from -1 (hallucinated) to +1; score = 100 x cosine"))

    def _write(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


def style_of(reward: float | None) -> Style:
    """The colour of a word: green above 0, red below, bold from 0.5 on; cyan for none."""
    if reward is None:
        return Style(color=_UNJUDGED, underline=True)
    if reward == 0:
        return Style(underline=True)
    return Style(color=_GOOD if reward > 0 else _BAD, bold=abs(reward) >= _STRONG)


def coloured(text: str, spans: Sequence[SpanReward]) -> Text:
    """The text with each span in the colour of its reward."""
    line = Text(_visible(text))
    for span in spans:
        line.stylize(style_of(span.reward), span.start, span.end)
    return line


def marked(text: str, spans: Sequence[SpanReward]) -> Text:
    """The text with each span as `[word +0.61]`, for where there are no colours."""
    pieces, position = Text(), 0
    for span in spans:
        value = f"{span.reward:+.2f}" if span.reward is not None else f"{span.score:.1f}"
        pieces.append(_visible(text[position : span.start]))
        pieces.append(f"[{_visible(text[span.start : span.end])} {value}]")
        position = span.end
    return pieces.append(_visible(text[position:]))


def _span_lines(spans: Sequence[SpanReward]) -> Iterator[Text]:
    width = max((len(span.text) for span in spans), default=0)
    for span in spans:
        line = Text(f"  {_visible(span.text):<{width}}  score {span.score:6.2f}")
        if span.reward is not None:
            line.append(f"  reward {span.reward:+.2f}  {span.verdict}", style=style_of(span.reward))
        yield line
    if not spans:
        yield Text("  no object words", style="dim")


def _visible(text: str) -> str:
    """Replaces control characters one for one, so that a caption cannot steer the terminal."""
    return text.translate(_VISIBLE)
