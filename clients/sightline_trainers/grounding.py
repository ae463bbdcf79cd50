"""Asks the service where the objects of a text are (SVP's feedback). Knows the SDK; no model."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, get_args

from sightline import UnavailableError
from sightline.errors import Circumstances
from sightline_core.grounding import (
    BOX_FORMATS,
    BoxFormat,
    format_context,
    non_maximum_suppression,
)
from sightline_proto import Detection, GroundItem, GroundItemReply, GroundRequest
from sightline_trainers.rewards import Response, RewardSource

Order = Literal["score", "left-to-right"]
ORDERS: tuple[Order, ...] = get_args(Order)
Boxes = tuple[Detection, ...]
"""What was found in one image for one text, best first."""


@dataclass(frozen=True, kw_only=True)
class GroundingConfig:
    """How a detector is asked, and how its boxes are written.

    Raises:
        ValueError: a number is out of range.
    """

    box_threshold: float = 0.35
    """The least score of a box."""
    text_threshold: float = 0.25
    """The least score of a word in a box's label, in detectors that score words."""
    nms_iou: float = 0.7
    """Of two boxes that overlap by more, the better is kept."""
    max_boxes: int = 20
    box_format: BoxFormat = "xyxy"
    """How a box is written: corners, or centre and size (as in the paper's Figure 27b)."""
    bullet: str = ""
    """What opens each line: with "- " a label is split into tokens as it is within a sentence."""
    order: Order = "score"
    """Which box is written first: the best, or the leftmost."""
    pooled: bool = False
    """Show each guided sample what was found for all samples of its image, not for its own."""

    def __post_init__(self) -> None:
        """Refuses what cannot be asked."""
        for name in ("box_threshold", "text_threshold", "nms_iou"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"boxes.{name} is {value}: give 0 to 1")
        if self.max_boxes < 1:
            raise ValueError(f"boxes.max_boxes is {self.max_boxes}: give 1 or more")
        if self.order not in ORDERS:
            known = ", ".join(ORDERS)
            raise ValueError(f"boxes.order is {self.order!r}: choose one of {known}")
        if self.box_format not in BOX_FORMATS:
            known = ", ".join(BOX_FORMATS)
            raise ValueError(f"boxes.box_format is {self.box_format!r}: choose one of {known}")

    def context(self, boxes: Boxes) -> str:
        """The boxes as a prompt shows them: one `label [x1, y1, x2, y2]` a line."""
        if self.order == "left-to-right":
            boxes = tuple(sorted(boxes, key=lambda each: each.box[0] + each.box[2]))
        found = [(each.phrase, each.box) for each in boxes]
        return format_context(found, self.box_format, bullet=self.bullet)

    def pool(self, found: Sequence[Boxes]) -> Boxes:
        """All boxes of one image, suppressed and cut as the service does it for one text."""
        every = [box for boxes in found for box in boxes]
        kept = non_maximum_suppression(
            [box.box for box in every], [box.score for box in every], self.nms_iou
        )
        return tuple(every[int(index)] for index in kept[: self.max_boxes])


class GroundingSource(RewardSource):
    """A service with a detector, asked in the background; it may be away for a while."""

    def ask_boxes(
        self, texts: Sequence[Response], config: GroundingConfig
    ) -> "Future[list[Boxes]]":
        """Asks /ground about the objects that each text names; an empty text names none."""
        return self._pool.submit(self._patiently, lambda: self._boxes(texts, config))

    def _boxes(self, texts: Sequence[Response], config: GroundingConfig) -> list[Boxes]:
        asked = [each for each in texts if not each.empty]
        if not asked:
            return [()] * len(texts)
        request = GroundRequest(
            items=tuple(GroundItem(image=each.image, text=each.text) for each in asked),
            box_threshold=config.box_threshold,
            text_threshold=config.text_threshold,
            nms_iou=config.nms_iou,
            max_boxes=config.max_boxes,
        )
        reply = self._client.send(request)
        found = iter([_found(*pair) for pair in zip(asked, reply.items, strict=True)])
        return [() if each.empty else next(found) for each in texts]


def _found(text: Response, item: GroundItemReply) -> Boxes:
    if item.error is not None:
        message = f"{text.origin}: {item.error.message} ({item.error.code})"
        # the error's code tells whether it may pass, as for a refused request
        raise UnavailableError(message, Circumstances(code=item.error.code))
    assert item.result is not None
    return item.result.detections
