"""Builds the four requests from plain arguments. Knows the messages; knows no HTTP."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from operator import index
from typing import cast

from pydantic import ValidationError

from sightline.images import ImageLike, to_image
from sightline_proto import (
    ENDPOINTS,
    Endpoint,
    GroundItem,
    GroundRequest,
    PerplexityItem,
    PerplexityRequest,
    SentenceRewardItem,
    SentenceRewardRequest,
    TokenRewardItem,
    TokenRewardRequest,
    validation_detail,
)
from sightline_proto.endpoints import AnyReply, Request
from sightline_proto.sentence_reward import Combine

Texts = str | Sequence[str]
Offsets = Sequence[tuple[int, int]]


def endpoint_of(request: Request) -> Endpoint[Request, AnyReply]:
    """Returns the endpoint that answers this kind of request."""
    for endpoint in ENDPOINTS:
        if isinstance(request, endpoint.request):
            return cast(Endpoint[Request, AnyReply], endpoint)
    raise TypeError(f"request is a {type(request).__name__}: give one of the four request messages")


def token_reward(
    image: ImageLike, texts: Texts, offsets: Sequence[Offsets] | None, profile: str | None
) -> TokenRewardRequest:
    """Asks which object words of texts an image bears out.

    Args:
        image: a path, the bytes of an image file, a PIL image, or an `Image`.
        texts: one caption or several; one result each.
        offsets: per text, its tokens' half-open character ranges; each token gets one reward.
        profile: the calibration to apply; None for the service's own.
    """
    with _readable_errors():
        item = TokenRewardItem(
            image=to_image(image),
            texts=_texts(texts),
            token_offsets=None if offsets is None else tuple(map(_offsets, offsets)),
        )
        return TokenRewardRequest(items=(item,), profile=profile)


def sentence_reward(
    image: ImageLike,
    texts: Texts,
    language_scores: Sequence[float] | None,
    weight: float,
    combine: Combine,
) -> SentenceRewardRequest:
    """Asks how well texts and their sentences fit an image.

    Args:
        image: as for `token_reward`.
        texts: one text or several, which are each other's siblings; one result each.
        language_scores: the policy's own score of each text, higher is better (CSR's R_T).
        weight: the image score's share in [0, 1] (CSR's lambda).
        combine: the scale on which both scores are added: "rank", "minmax" or "raw".
    """
    scores = None if language_scores is None else tuple(float(score) for score in language_scores)
    with _readable_errors():
        item = SentenceRewardItem(
            image=to_image(image), texts=_texts(texts), language_scores=scores
        )
        return SentenceRewardRequest(items=(item,), weight=float(weight), combine=combine)


def perplexity(
    texts: Texts, image: ImageLike | None, prompt: str | None, return_tokens: bool
) -> PerplexityRequest:
    """Asks how surprising texts are to the served language model.

    Args:
        texts: one text or several; one result each.
        image: what the model sees, as for `token_reward`; None for nothing.
        prompt: what the texts answer; None for the model's own.
        return_tokens: adds each token's log-probability, in nats.
    """
    seen = None if image is None else to_image(image)
    with _readable_errors():
        item = PerplexityItem(image=seen, prompt=prompt, texts=_texts(texts))
        return PerplexityRequest(items=(item,), return_tokens=return_tokens)


def ground(
    image: ImageLike,
    phrases: Texts | None,
    text: str | None,
    thresholds: tuple[float, float, float],
    max_boxes: int,
) -> GroundRequest:
    """Asks where in an image things are.

    Args:
        image: as for `token_reward`.
        phrases: what to find: one phrase or several; None where `text` is given.
        text: a text whose objects are to be found.
        thresholds: box_threshold, the least score of a box; text_threshold, the least score of a
            word in its label; nms_iou, the overlap above which the weaker of two boxes is dropped.
        max_boxes: most boxes, best first.
    """
    box_threshold, text_threshold, nms_iou = (float(threshold) for threshold in thresholds)
    with _readable_errors():
        item = GroundItem(
            image=to_image(image), phrases=None if phrases is None else _texts(phrases), text=text
        )
        return GroundRequest(
            items=(item,),
            box_threshold=box_threshold,
            text_threshold=text_threshold,
            nms_iou=nms_iou,
            max_boxes=max_boxes,
        )


@contextmanager
def _readable_errors() -> Generator[None, None, None]:
    """Says in one line, as the service does, which argument no service would take."""
    try:
        yield
    except ValidationError as error:
        raise ValueError(validation_detail(error).message) from error


def _offsets(of_text: Offsets) -> tuple[tuple[int, int], ...]:
    """Takes numpy's and torch's whole numbers as well; refuses fractions."""
    return tuple((index(start), index(end)) for start, end in of_text)


def _texts(texts: Texts) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)
