"""What every reply carries beside its scores: the model, the usage, an item's error. Knows no endpoint."""

from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from sightline_proto.errors import ErrorDetail
from sightline_proto.message import Count, Message


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


class SparseMessage(Message):
    """A message that leaves out the fields named in `omit_when_none` where they are None."""

    omit_when_none: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {
            name: value
            for name, value in fields.items()
            if value is not None or name not in self.omit_when_none
        }


class ItemReply(SparseMessage):
    """One item's answer: its place in the request, the id given there, and a result or an error."""

    omit_when_none: ClassVar[frozenset[str]] = frozenset({"result", "results", "error"})

    index: Count
    id: str | None = None
    error: ErrorDetail | None = None


class Reply(Message):
    """The envelope. `scale` names the unit of `score`; `profile` the calibration that was applied."""

    model: ModelInfo
    scale: str
    profile: str | None = None
    usage: Usage
