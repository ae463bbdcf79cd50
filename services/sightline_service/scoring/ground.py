"""SVP's grounding feedback: boxes for phrases, and their text form. Knows no HTTP."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sightline_core.entities import Vocabulary
from sightline_core.grounding import format_context, non_maximum_suppression, phrases_in
from sightline_proto import (
    Detection,
    GroundItem,
    GroundItemReply,
    GroundReply,
    GroundRequest,
    GroundResult,
    Usage,
)
from sightline_service.batching import Lane
from sightline_service.errors import NonFiniteScoreError
from sightline_service.models.protocols import Detector, Prepared, RawDetection
from sightline_service.preparing import Preparer
from sightline_service.scoring.items import Scored, score_each
from sightline_service.sources import EncodedImage, ImageSource

SCALE = "probability"


@dataclass(frozen=True, slots=True)
class _Query:
    """One image with its phrases, cut into the inputs that the detector wants."""

    phrases: tuple[str, ...]
    size: tuple[int, int]
    inputs: tuple[Prepared, ...]


class GroundScorer:
    """Answers /ground."""

    def __init__(
        self,
        detector: Detector,
        *,
        lane: Lane[Prepared, list[RawDetection]],
        source: ImageSource,
        preparer: Preparer,
        vocabulary: Vocabulary,
    ) -> None:
        self._detector = detector
        self._lane = lane
        self._source = source
        self._preparer = preparer
        self._vocabulary = vocabulary

    async def score(self, request: GroundRequest) -> GroundReply:
        """Finds each item's phrases, or the objects that its text names."""

        async def score_item(item: GroundItem) -> Scored[GroundResult]:
            return await self._score(item, request)

        outcomes, usage = await score_each(request.items, score_item)
        return GroundReply(
            model=self._detector.info,
            scale=SCALE,
            usage=usage,
            items=tuple(
                GroundItemReply(index=n, id=item.id, result=each.result, error=each.error)
                for n, (item, each) in enumerate(zip(request.items, outcomes, strict=True))
            ),
        )

    async def _score(self, item: GroundItem, request: GroundRequest) -> Scored[GroundResult]:
        image = await self._source.open(item.image)
        queries: list[_Query] = []

        def prepare() -> Sequence[Prepared]:
            query = self._query(image, item, request)
            queries.append(query)
            return query.inputs

        outcomes = await self._lane.prepare_and_submit(
            lambda: self._preparer.start("prepare", prepare)
        )
        candidates = [each for outcome in outcomes for each in self._checked(outcome)]
        [query] = queries
        usage = Usage(images=1, texts=len(query.phrases), truncated=0)
        return Scored(_result(query, candidates, request), usage)

    def _query(self, image: EncodedImage, item: GroundItem, request: GroundRequest) -> _Query:
        pixels = image.decode()
        phrases = item.phrases or phrases_in(item.text or "", self._vocabulary)
        threshold = request.text_threshold
        inputs = (
            self._detector.prepare(pixels, phrases, text_threshold=threshold) if phrases else ()
        )
        return _Query(phrases, pixels.size, tuple(inputs))

    def _checked(self, outcome: list[RawDetection] | Exception) -> list[RawDetection]:
        if isinstance(outcome, Exception):
            raise outcome
        if not all(math.isfinite(math.fsum((*raw.box, raw.score))) for raw in outcome):
            raise NonFiniteScoreError(self._detector.info.id)
        return outcome


def _result(
    query: _Query, candidates: Sequence[RawDetection], request: GroundRequest
) -> GroundResult:
    """Keeps what passes the threshold, best first: suppressed, cut to `max_boxes`."""
    good = [each for each in candidates if each.score >= request.box_threshold]
    boxes, scores = [each.box for each in good], [each.score for each in good]
    kept = non_maximum_suppression(boxes, scores, request.nms_iou)[: request.max_boxes]
    detections = tuple(_detection(good[index], query) for index in kept)
    context = format_context([(each.phrase, each.box) for each in detections])
    return GroundResult(detections=detections, context=context)


def _detection(raw: RawDetection, query: _Query) -> Detection:
    width, height = query.size
    x1, y1, x2, y2 = raw.box
    return Detection(
        phrase=query.phrases[raw.phrase_index],
        label=raw.label,
        score=raw.score,
        box=raw.box,
        box_pixels=(x1 * width, y1 * height, x2 * width, y2 * height),
    )
