"""Which spans of a text name something that is in the image? Knows CHAIR's mentions; no scores.

The verifier's vocabulary is wider than the annotations: it also finds a "lamp", which COCO never
annotates. So a span is judged by the CHAIR mention (clean mode) that it overlaps, and a span that
overlaps none stays without a label rather than counting as hallucinated.
"""

from collections.abc import Sequence
from typing import Protocol

from sightline_eval.lexicon import Lexicon
from sightline_eval.mentions import Mention, find_mentions


class TextRange(Protocol):
    """Anything with a half-open character range."""

    @property
    def start(self) -> int:
        """First character."""
        ...

    @property
    def end(self) -> int:
        """One past the last character."""
        ...


def label_spans(
    text: str, spans: Sequence[TextRange], truth: frozenset[str], lexicon: Lexicon
) -> tuple[bool | None, ...]:
    """One label per span: True in the image, False hallucinated, None not annotated.

    Args:
        text: the caption that the spans belong to.
        spans: half-open character ranges.
        truth: the objects of the image, in the lexicon's names.
        lexicon: CHAIR's words.
    """
    mentions = find_mentions(text, lexicon)
    return tuple(_label(span, mentions, truth) for span in spans)


def _label(span: TextRange, mentions: Sequence[Mention], truth: frozenset[str]) -> bool | None:
    for mention in mentions:
        if mention.start < span.end and span.start < mention.end:
            return mention.object in truth
    return None
