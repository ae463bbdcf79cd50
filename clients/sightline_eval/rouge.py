"""ROUGE-L of one caption against its references. Knows words; reads no text.

Chin-Yew Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, as COCO's caption
scores have it: the best precision and the best recall, which two references may give, with beta
1.2, averaged over captions.
"""

from collections.abc import Sequence

from sightline_eval.ngrams import Words

_BETA = 1.2


def rouge_l(candidate: Words, references: Sequence[Words]) -> float:
    """F-score of the longest common subsequence, in [0, 1]; 0 where nothing is common."""
    common = [_common_length(candidate, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(
        length / len(reference)
        for length, reference in zip(common, references, strict=True)
        if reference
    )
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_length(first: Words, second: Words) -> int:
    """Words of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)  # of the words of `first` so far and of second[:j]
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            longer = diagonal + 1 if word == other else max(lengths[j], lengths[j - 1])
            diagonal, lengths[j] = lengths[j], longer
    return lengths[-1]
