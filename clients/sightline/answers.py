"""Does the answer fit the question, and joining partial answers. Pure: knows no HTTP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, TypeVar, cast

from sightline.parcels import Item
from sightline_proto import (
    GroundItem,
    GroundItemReply,
    PerplexityItemReply,
    SentenceRewardItemReply,
    TokenRewardItem,
    TokenRewardItemReply,
    Usage,
)
from sightline_proto.endpoints import AnyReply, Rep

ItemReply = TokenRewardItemReply | SentenceRewardItemReply | GroundItemReply | PerplexityItemReply
T = TypeVar("T", covariant=True)


class MisfitError(ValueError):
    """The answer does not fit the question; the message says how."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """The answer to some of a batch's items; `places` are their positions in the batch."""

    places: tuple[int, ...]
    reply: T


def check(items: Sequence[Item], reply: AnyReply) -> None:
    """Holds an answer against the items that were asked about.

    Checked are the number of answers, their order, ids and kinds, the number of results per item
    and of token rewards per text. That every number is finite, and that an item has either a result
    or an error, is held by the messages themselves.

    Raises:
        MisfitError: anything is missing, doubled or out of place.
    """
    answers: Sequence[ItemReply] = reply.items
    if len(answers) != len(items):
        raise MisfitError(f"{len(answers)} answers came for {len(items)} items")
    for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
        flaw = next(_flaws(place, item, answer), None)
        if flaw is not None:
            raise MisfitError(f"items[{place}]: {flaw}")


def _flaws(place: int, item: Item, answer: ItemReply) -> Iterator[str]:
    if answer.index != place:
        yield f"the answer says index {answer.index}"
    if answer.id != item.id:
        yield f"the answer says id {answer.id!r}, the item has {item.id!r}"
    if isinstance(item, GroundItem) or isinstance(answer, GroundItemReply):
        return
    if answer.results is not None and len(answer.results) != len(item.texts):
        yield f"{len(answer.results)} results came for {len(item.texts)} texts"
    if isinstance(item, TokenRewardItem) and isinstance(answer, TokenRewardItemReply):
        yield from _reward_flaws(item, answer)


def _reward_flaws(item: TokenRewardItem, answer: TokenRewardItemReply) -> Iterator[str]:
    if answer.results is None:
        return
    for number, (result, offsets) in enumerate(
        zip_longest(answer.results, item.token_offsets or (), fillvalue=None)
    ):
        expected = None if offsets is None else len(offsets)
        rewards = None if result is None else result.token_rewards
        got = None if rewards is None else len(rewards)
        if got != expected:
            yield f"results[{number}] has {got} token rewards for {expected} token offsets"


def by_place(parts: Sequence[Part[AnyReply]]) -> dict[int, ItemReply]:
    """Returns the batch's answers by place; of two for one item the later part's counts."""
    found: dict[int, ItemReply] = {}
    for part in parts:
        answers: Sequence[ItemReply] = part.reply.items
        found.update(zip(part.places, answers, strict=True))
    return found


def error_codes(parts: Sequence[Part[AnyReply]]) -> dict[int, str]:
    """Returns the error code of each place that has one."""
    found = by_place(parts).items()
    return {place: answer.error.code for place, answer in found if answer.error is not None}


def join(parts: Sequence[Part[Rep]]) -> Rep:
    """Joins partial answers in the batch's order; of two for one item the later part's counts.

    Raises:
        MisfitError: the parts were scored by different models, or in different units, as happens
            while a service is being replaced: their scores cannot be compared.
    """
    first = parts[0].reply
    for part in parts[1:]:
        for name in ("model", "scale", "profile"):
            ours, theirs = getattr(first, name), getattr(part.reply, name)
            if ours != theirs:
                raise MisfitError(f"one batch was scored with {name} {ours!r} and with {theirs!r}")
    answers = by_place(parts)
    usages = [part.reply.usage for part in parts]
    joined = first.model_copy(
        update={
            "items": tuple(_placed(answers[place], place) for place in sorted(answers)),
            "usage": Usage(
                images=sum(usage.images for usage in usages),
                texts=sum(usage.texts for usage in usages),
                truncated=sum(usage.truncated for usage in usages),
            ),
        }
    )
    return cast(Rep, joined)


def _placed(answer: ItemReply, place: int) -> ItemReply:
    error = answer.error
    if error is not None and error.param is not None:
        head = f"items[{answer.index}]"
        param = error.param.replace(head, f"items[{place}]", 1)
        error = error.model_copy(update={"param": param})
    return answer.model_copy(update={"index": place, "error": error})
