"""What every reply carries beside its scores: model, usage, an item's error. Knows no endpoint."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from sightline_proto.errors import ErrorDetail
from sightline_proto.message import Count, Message

OmittedWhenNone = Field(exclude_if=lambda value: value is None)
"""Marks a field that is left out of the JSON, rather than written as null, where it is None."""


class ModelInfo(Message):
    """Which weights gave the scores.

    `id` is the model reference as served, `revision` a hash of the weights, `preprocess` a hash of
    the image and text preprocessing, `dtype` the arithmetic ("float32", "bfloat16", ..).
    """

    id: str
    revision: str
    preprocess: str
    dtype: str


class Usage(Message):
    """What the request cost: images and texts scored, texts cut at the model's context length."""

    images: Count
    texts: Count
    truncated: Count


class ItemReply(Message):
    """One item's answer: its place in the request, the id given there, and a result or an error."""

    index: Count
    id: str | None = None
    error: Annotated[ErrorDetail | None, OmittedWhenNone] = None

    @model_validator(mode="after")
    def _result_or_error(self) -> Self:
        answers = {"result", "results", "error"} & type(self).model_fields.keys()
        given = [name for name in sorted(answers) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"item {self.index} has {' and '.join(given) or 'nothing'}: "
                f"give exactly one of {', '.join(sorted(answers))}"
            )
        return self


class Reply(Message):
    """The envelope of every reply.

    `scale` names the unit of `score`, `profile` the calibration that was applied.
    """

    model: ModelInfo
    scale: str
    profile: str | None = None
    usage: Usage
