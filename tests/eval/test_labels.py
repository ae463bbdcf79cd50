"""Which spans count as correct, as hallucinated, or not at all."""

from sightline_core.entities import Span
from sightline_eval.labels import label_spans
from sightline_eval.lexicon import load_lexicon

CLEAN = load_lexicon("clean")


def span(text, word):
    start = text.index(word)
    return Span(word, word, start, start + len(word))


def test_spans_are_right_wrong_or_unlabelled():
    text = "A puppy, a kitten and a lamp."
    spans = [span(text, word) for word in ("puppy", "kitten", "lamp")]
    assert label_spans(text, spans, frozenset({"dog"}), CLEAN) == (True, False, None)


def test_a_span_inside_a_longer_mention_belongs_to_that_mention():
    text = "A baby elephant with a hot dog."
    spans = [span(text, word) for word in ("baby", "elephant", "hot dog", "dog")]
    truth = frozenset({"elephant", "hot dog"})
    assert label_spans(text, spans, truth, CLEAN) == (True, True, True, True)
