"""Messages of /token_reward: which words of a text does the image bear out? Knows no model."""

from typing import Annotated, Literal, Self

from annotated_types import MaxLen, MinLen
from pydantic import Field, model_validator

from sightline_proto import limits
from sightline_proto.image import Image
from sightline_proto.message import Count, Flag, ItemId, Message, Number, ProfileName, Text
from sightline_proto.reply import ItemReply, OmittedWhenNone, Reply

Offset = tuple[Count, Count]
TokenOffsets = Annotated[tuple[Offset, ...], Field(max_length=limits.TOKENS, fail_fast=True)]
Verdict = Literal["supported", "neutral", "hallucinated"]


class TokenRewardItem(Message):
    """One image and its candidate texts.

    `token_offsets` holds, per text, the half-open character ranges (Unicode code points of the text
    as sent) of the caller's tokens; empty ranges are allowed and earn nothing.
    """

    id: ItemId | None = None
    image: Image
    texts: Annotated[tuple[Text, ...], MinLen(1), MaxLen(limits.TEXTS)]
    token_offsets: Annotated[tuple[TokenOffsets, ...], MaxLen(limits.TEXTS)] | None = None

    @model_validator(mode="after")
    def _offsets_fit_the_texts(self) -> Self:
        if self.token_offsets is None:
            return self
        if len(self.token_offsets) != len(self.texts):
            raise ValueError(
                f"token_offsets has {len(self.token_offsets)} entries for {len(self.texts)} texts: "
                "give one list of [start, end] per text"
            )
        for number, (text, offsets) in enumerate(zip(self.texts, self.token_offsets, strict=True)):
            for start, end in offsets:
                if not start <= end <= len(text):
                    raise ValueError(
                        f"token_offsets[{number}] holds [{start}, {end}], outside the text of "
                        f"{len(text)} characters: need 0 <= start <= end <= {len(text)}"
                    )
        return self


class TokenRewardRequest(Message):
    """Scores the object words of texts against images (FiSAO, Eq. 11-12)."""

    items: Annotated[tuple[TokenRewardItem, ...], MinLen(1), MaxLen(limits.ITEMS)]
    profile: ProfileName | None = None


class SpanReward(Message):
    """One object word or phrase of a text.

    `start` and `end` are half-open character offsets into the text as sent; `entity` is the
    canonical object; `score` = 100 * `cosine`, or 100 * the confidence of the best box where a
    detector scores words (scale `conf100`), and then `cosine` is null; `reward` in [-1, 1] and
    `verdict` follow from the calibration profile and are null where the model has none.
    """

    text: str
    entity: str
    start: Count
    end: Count
    cosine: Number | None
    score: Number
    reward: Number | None
    verdict: Verdict | None


class TokenRewardResult(Message):
    """One text's spans; `token_rewards` has exactly one number per token offset that was sent."""

    spans: tuple[SpanReward, ...]
    token_rewards: tuple[Number, ...] | None
    truncated: Flag


class TokenRewardItemReply(ItemReply):
    """One result per text, in order, or the item's error."""

    results: Annotated[tuple[TokenRewardResult, ...] | None, OmittedWhenNone] = None


class TokenRewardReply(Reply):
    """One reply per item, in order."""

    items: tuple[TokenRewardItemReply, ...]
