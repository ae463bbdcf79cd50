"""Messages of /perplexity: how surprising is a text, given the image? Knows no model."""

from typing import Annotated

from annotated_types import MaxLen, MinLen

from sightline_proto import limits
from sightline_proto.image import Image
from sightline_proto.message import Count, Flag, ItemId, Message, Number, Text
from sightline_proto.reply import ItemReply, OmittedWhenNone, Reply


class PerplexityItem(Message):
    """Texts to score as answers to `prompt` about `image`; both may be left out."""

    id: ItemId | None = None
    image: Image | None = None
    prompt: Text | None = None
    texts: Annotated[tuple[Text, ...], MinLen(1), MaxLen(limits.TEXTS)]


class PerplexityRequest(Message):
    """Scores texts by teacher forcing; `return_tokens` adds each token's log-probability."""

    items: Annotated[tuple[PerplexityItem, ...], MinLen(1), MaxLen(limits.ITEMS)]
    return_tokens: Flag = False


class TokenLogProb(Message):
    """One token of a text: half-open character offsets and its log-probability in nats."""

    text: str
    start: Count
    end: Count
    log_prob: Number


class SentencePerplexity(Message):
    """One sentence: summed log-probability in nats, tokens, exp(-mean), ASPO's min-max PPL'."""

    text: str
    start: Count
    end: Count
    log_prob: Number
    n_tokens: Count
    perplexity: Number
    normalized: Number


class PerplexityResult(Message):
    """One text: the sums over its tokens, and the same for each sentence.

    `tokens` is there where the request said `return_tokens`.
    """

    log_prob: Number
    n_tokens: Count
    perplexity: Number
    sentences: tuple[SentencePerplexity, ...]
    tokens: Annotated[tuple[TokenLogProb, ...] | None, OmittedWhenNone] = None


class PerplexityItemReply(ItemReply):
    """One result per text, in order, or the item's error."""

    results: Annotated[tuple[PerplexityResult, ...] | None, OmittedWhenNone] = None


class PerplexityReply(Reply):
    """One reply per item, in order."""

    items: tuple[PerplexityItemReply, ...]
