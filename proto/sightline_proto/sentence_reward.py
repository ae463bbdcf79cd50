"""Messages of /sentence_reward: how well does a text fit the image? Knows no model."""

from typing import Annotated, Literal, Self

from annotated_types import MaxLen, MinLen
from pydantic import Field, model_validator

from sightline_proto import limits
from sightline_proto.image import Image
from sightline_proto.message import Count, Flag, ItemId, Message, Number, Text
from sightline_proto.reply import ItemReply, OmittedWhenNone, Reply

Combine = Literal["rank", "minmax", "raw"]


class SentenceRewardItem(Message):
    """One image and its candidate texts, which are each other's siblings.

    `language_scores` holds one number per text, higher is better: the policy's own R_T
    (CSR, Eq. 1).
    """

    id: ItemId | None = None
    image: Image
    texts: Annotated[tuple[Text, ...], MinLen(1), MaxLen(limits.TEXTS)]
    language_scores: Annotated[tuple[Number, ...], MaxLen(limits.TEXTS)] | None = None

    @model_validator(mode="after")
    def _one_language_score_per_text(self) -> Self:
        if self.language_scores is not None and len(self.language_scores) != len(self.texts):
            raise ValueError(
                f"language_scores has {len(self.language_scores)} numbers for {len(self.texts)} "
                "texts: give one per text"
            )
        return self


class SentenceRewardRequest(Message):
    """Scores texts against images (CSR, Eq. 2-3; ASPO, S').

    `weight` is CSR's lambda, the share of the image score; `combine` the common scale on which
    `language_scores` and image scores are added.
    """

    items: Annotated[tuple[SentenceRewardItem, ...], MinLen(1), MaxLen(limits.ITEMS)]
    weight: Annotated[Number, Field(ge=0, le=1)] = 0.9
    combine: Combine = "rank"


class SentenceScore(Message):
    """One sentence: half-open offsets, `score` = 100 * `cosine`, `normalized` in [0, 1] (ASPO)."""

    text: str
    start: Count
    end: Count
    cosine: Number
    score: Number
    normalized: Number


class SentenceRewardResult(Message):
    """One text's scores.

    `score` = max(100 * `cosine`, 0) (CSR, Eq. 2); `calibrated` joins it with the text's language
    score (CSR, Eq. 3) and is null where none was given.
    """

    cosine: Number
    score: Number
    calibrated: Number | None
    sentences: tuple[SentenceScore, ...]
    truncated: Flag


class SentenceRewardItemReply(ItemReply):
    """One result per text, in order, or the item's error."""

    results: Annotated[tuple[SentenceRewardResult, ...] | None, OmittedWhenNone] = None


class SentenceRewardReply(Reply):
    """One reply per item, in order."""

    items: tuple[SentenceRewardItemReply, ...]
