"""From captions with ground truth to a profile (FiSAO, Eq. 11). Knows a client; draws nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal, Protocol

import numpy as np

from sightline_core.fisao import SCALES, Profile, Scale, calibrate
from sightline_eval.captions import Caption
from sightline_eval.labels import label_spans
from sightline_eval.lexicon import Lexicon
from sightline_eval.roc import auroc
from sightline_proto import (
    Image,
    ModelInfo,
    TokenRewardItem,
    TokenRewardReply,
    TokenRewardRequest,
)

AUTO_SHARE = 1 / 3
"""With `margin="auto"` at least this share of each kind of mention earns a reward other than 0."""

SMALLEST_SHARE = 0.01
"""Where fewer mentions than this lie beyond a threshold, almost no token earns a reward there."""

Margin = float | Literal["auto"]
DEFAULT_MARGIN = 4.0
"""The paper's lambda on the scale of 100 * cosine."""

_IMAGES_PER_REQUEST = 16


class TokenScorer(Protocol):
    """The part of `RewardClient` that calibration needs."""

    def send(self, request: TokenRewardRequest) -> TokenRewardReply:
        """Scores a batch: one reply per item, in order."""
        ...


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image: how to read its bytes, its captions, and the objects in it (lexicon's names)."""

    name: str
    read: Callable[[], bytes]
    captions: tuple[str, ...]
    truth: frozenset[str]


@dataclass(frozen=True, slots=True)
class MentionScores:
    """The verifier's scores of all labelled object mentions, and the verifier.

    `n_unlabelled` mentions are of things that the data set does not annotate; they are left out.
    """

    correct: tuple[float, ...]
    hallucinated: tuple[float, ...]
    n_unlabelled: int
    model: ModelInfo
    scale: Scale


@dataclass(frozen=True, slots=True)
class Calibration:
    """A profile, the scores that it rests on, and how far it uses them.

    `share_supported` and `share_hallucinated` are the shares of all labelled mentions that lie
    beyond the upper and the lower threshold, so that they earn a reward other than 0; `auroc` says
    how well the scores separate correct from hallucinated mentions.
    """

    profile: Profile
    scores: MentionScores
    share_supported: float
    share_hallucinated: float
    auroc: float


def gather(
    captions: Sequence[Caption],
    read: Mapping[int, Callable[[], bytes]],
    truth: Mapping[int, frozenset[str]],
) -> tuple[CaptionedImage, ...]:
    """Puts the captions of one image together; captions without text are dropped."""
    texts: dict[int, tuple[str, ...]] = {}
    for caption in captions:
        if caption.text.strip():
            texts[caption.image] = (*texts.get(caption.image, ()), caption.text)
    return tuple(
        CaptionedImage(str(image), read[image], named, truth[image])
        for image, named in texts.items()
    )


def score_mentions(
    client: TokenScorer,
    images: Sequence[CaptionedImage],
    lexicon: Lexicon,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> MentionScores:
    """Scores the object mentions of captions over HTTP and labels them by the ground truth.

    Every mention counts, also a repeated one (a micro-average, as in Eq. 11).

    Args:
        client: the reward service.
        images: at least one, each with at least one caption.
        lexicon: CHAIR's words.
        on_progress: called with the number of images done since the last call.

    Raises:
        ValueError: there are no images, or the service could not score one of them.
    """
    if not images:
        raise ValueError("no caption has any text: calibration needs object mentions")
    replies: list[TokenRewardReply] = []
    scores: dict[bool | None, list[float]] = {True: [], False: [], None: []}
    for start in range(0, len(images), _IMAGES_PER_REQUEST):
        batch = images[start : start + _IMAGES_PER_REQUEST]
        replies.append(client.send(TokenRewardRequest(items=tuple(map(_item, batch)))))
        for label, score in _labelled(batch, replies[-1], lexicon):
            scores[label].append(score)
        on_progress(len(batch))
    model, scale = _verifier(replies)
    return MentionScores(tuple(scores[True]), tuple(scores[False]), len(scores[None]), model, scale)


def _verifier(replies: Sequence[TokenRewardReply]) -> tuple[ModelInfo, Scale]:
    models = {(reply.model, reply.scale) for reply in replies}
    if len(models) > 1:
        raise ValueError("the replies come from different models: calibrate against one service")
    ((model, scale),) = models
    for known in SCALES:
        if scale == known:
            return model, known
    raise ValueError(f"the service scores on scale {scale!r}: use one of {', '.join(SCALES)}")


def _item(image: CaptionedImage) -> TokenRewardItem:
    return TokenRewardItem(id=image.name, image=Image(image.read()), texts=image.captions)


def _labelled(
    images: Sequence[CaptionedImage], reply: TokenRewardReply, lexicon: Lexicon
) -> Iterator[tuple[bool | None, float]]:
    for image, item in zip(images, reply.items, strict=True):
        if item.results is None:
            reason = item.error.message if item.error else "no result"
            raise ValueError(f"image {image.name} could not be scored: {reason}")
        for text, result in zip(image.captions, item.results, strict=True):
            labels = label_spans(text, result.spans, image.truth, lexicon)
            yield from zip(labels, (span.score for span in result.spans), strict=True)


def calibrate_profile(
    scores: MentionScores, *, name: str = "default", margin: Margin = DEFAULT_MARGIN
) -> Calibration:
    """The profile of these scores (Eq. 11), and what it will do to them.

    Args:
        scores: labelled mentions of both kinds.
        name: the profile's name.
        margin: the paper's lambda, on the scale of the scores, or "auto" (see `auto_margin`).

    Raises:
        ValueError: a kind has no mention, or mu_gt <= mu_hal (it would reward hallucination).
    """
    profile = calibrate(
        scores.correct,
        scores.hallucinated,
        margin=0.0 if margin == "auto" else margin,
        scale=scores.scale,
        name=name,
        model_id=scores.model.id,
        model_revision=scores.model.revision,
        preprocess=scores.model.preprocess,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sightline_version=version("sightline"),
    )
    if margin == "auto":
        profile = replace(profile, margin=auto_margin(scores, profile))
    everything = scores.correct + scores.hallucinated
    return Calibration(
        profile,
        scores,
        share_supported=sum(score > profile.upper for score in everything) / len(everything),
        share_hallucinated=sum(score < profile.lower for score in everything) / len(everything),
        auroc=auroc(scores.correct, scores.hallucinated),
    )


def auto_margin(scores: MentionScores, profile: Profile) -> float:
    """The widest margin beyond which at least a third of each kind of mention still lies.

    A third of the correct mentions is then rewarded above 0, and a third of the hallucinated ones
    below 0. Where a kind's mean leaves no room for a margin, it is 0.

    The paper's own margin (4 on the scale of 100 * cosine) was tuned for one CLIP. Scores of
    another model may spread over a fifth or five times the range, where 4 silences every reward
    or hardly keeps any token neutral; this rule follows the scores.
    """
    above = float(np.quantile(scores.correct, 1 - AUTO_SHARE)) - profile.mu_gt
    below = profile.mu_hal - float(np.quantile(scores.hallucinated, AUTO_SHARE))
    return max(min(above, below), 0.0)
