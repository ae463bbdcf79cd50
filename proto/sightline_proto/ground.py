"""Messages of /ground: where in the image are these things? Knows no model."""

from typing import Annotated, Self

from annotated_types import MaxLen, MinLen
from pydantic import Field, model_validator

from sightline_proto import limits
from sightline_proto.image import Image
from sightline_proto.message import Count, ItemId, Message, Number, Text
from sightline_proto.reply import ItemReply, OmittedWhenNone, Reply

Fraction = Annotated[Number, Field(ge=0, le=1)]
Box = tuple[Number, Number, Number, Number]


class GroundItem(Message):
    """One image and either the phrases to find or a text whose objects are to be found."""

    id: ItemId | None = None
    image: Image
    phrases: Annotated[tuple[Text, ...], MinLen(1), MaxLen(limits.TEXTS)] | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _phrases_or_text(self) -> Self:
        if (self.phrases is None) == (self.text is None):
            both = "missing" if self.text is None else "given"
            raise ValueError(f"phrases and text are both {both}: give one of them")
        return self


class GroundRequest(Message):
    """Finds objects (SVP's grounding feedback).

    A box is kept where its best phrase scores at least `box_threshold`; `text_threshold` picks the
    words of a phrase in models that score words; of boxes that overlap by more than `nms_iou` the
    better is kept, and at most `max_boxes` by score.
    """

    items: Annotated[tuple[GroundItem, ...], MinLen(1), MaxLen(limits.ITEMS)]
    box_threshold: Fraction = 0.35
    text_threshold: Fraction = 0.25
    nms_iou: Fraction = 0.7
    max_boxes: Annotated[Count, Field(ge=1, le=limits.MAX_BOXES)] = 20


class Detection(Message):
    """One box: the `phrase` that was asked for, the model's own `label`, and its score in [0, 1].

    `box` is x1, y1, x2, y2 as fractions of the image; `box_pixels` the same in pixels.
    """

    phrase: str
    label: str
    score: Number
    box: Box
    box_pixels: Box


class GroundResult(Message):
    """The detections, best first, and the same as a prompt's context.

    `context` holds one `label [x1, y1, x2, y2]` a line.
    """

    detections: tuple[Detection, ...]
    context: str


class GroundItemReply(ItemReply):
    """The item's detections, or its error."""

    result: Annotated[GroundResult | None, OmittedWhenNone] = None


class GroundReply(Reply):
    """One reply per item, in order."""

    items: tuple[GroundItemReply, ...]
