"""A scored caption as HTML: words coloured by reward, sentence bars. Knows HTML only."""

from collections.abc import Iterable
from html import escape

from sightline_eval.survey import ScoredText
from sightline_proto import SentenceScore, SpanReward


def render_caption(text: ScoredText, *, low: float, high: float) -> str:
    """One row per sentence: its bar, then its words.

    Args:
        text: the scored caption; all of it is escaped.
        low: the sentence score that gives an empty bar.
        high: the sentence score that gives a full one.
    """
    return "".join(_sentence(text, sentence, low, high) for sentence in text.sentences)


def _sentence(text: ScoredText, sentence: SentenceScore, low: float, high: float) -> str:
    share = min(max((sentence.score - low) / max(high - low, 1e-9), 0.0), 1.0)
    return (
        f'<div class=sentence><span class=bar title="sentence score {sentence.score:.1f}">'
        f'<i style="width:{share:.0%}"></i><b>{sentence.score:.1f}</b></span>'
        f"<span>{_words(text, sentence)}</span></div>"
    )


def render_words(
    text: str, spans: Iterable[tuple[SpanReward, bool | None]], *, start: int = 0, end: int
) -> str:
    """The characters `start` to `end` of a text, the words that begin there coloured by reward.

    Args:
        text: all of it is escaped.
        spans: its object words, with whether each is true (None: nobody knows).
        start: where the part begins.
        end: where it ends.
    """
    parts: list[str] = []
    position = start
    for span, label in spans:
        if start <= span.start < end:
            parts += [escape(text[position : span.start]), _mark(span, label)]
            position = span.end
    parts.append(escape(text[position:end].rstrip()))
    return "".join(parts)


def _words(text: ScoredText, sentence: SentenceScore) -> str:
    spans = zip(text.spans, text.labels, strict=True)
    return render_words(text.text, spans, start=sentence.start, end=sentence.end)


def _mark(span: SpanReward, label: bool | None) -> str:
    reward = span.reward or 0.0
    kind = "up" if reward > 0 else "down" if reward < 0 else "flat"
    wrong = " wrong" if label is False else ""
    truth = {True: "in the picture", False: "NOT in the picture", None: "not annotated"}[label]
    verdict = f", reward {reward:+.2f} ({span.verdict})" if span.reward is not None else ""
    tip = escape(f"{span.entity}: score {span.score:.1f}{verdict}; {truth}", quote=True)
    word = escape(span.text)
    return f'<mark class="{kind}{wrong}" style="--a:{abs(reward):.2f}" title="{tip}">{word}</mark>'
