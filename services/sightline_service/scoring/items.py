"""One bad item fails alone. Knows errors and usage; knows no endpoint's formulas."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sightline_proto import ErrorDetail, Usage
from sightline_service.concurrency import together
from sightline_service.envelope import item_error
from sightline_service.errors import RequestError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Scored(Generic[Result]):
    """An item's result, and what it took."""

    result: Result
    usage: Usage


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """An item's result or its error."""

    result: Result | None = None
    error: ErrorDetail | None = None


async def score_each(
    items: Sequence[Item], score: Callable[[Item], Awaitable[Scored[Result]]]
) -> tuple[list[Outcome[Result]], Usage]:
    """Scores all items at once; returns their outcomes in order, and the usage of the good ones.

    Raises:
        RequestError: the request as a whole cannot be served.
    """

    async def isolated(index: int, item: Item) -> tuple[Outcome[Result], Usage | None]:
        try:
            scored = await score(item)
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001 - one item's failure is that item's alone
            return Outcome(error=item_error(error, index)), None
        return Outcome(result=scored.result), scored.usage

    scored = await together(isolated(index, item) for index, item in enumerate(items))
    usages = [usage for _, usage in scored if usage is not None]
    return [outcome for outcome, _ in scored], _total(usages)


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(
        images=sum(usage.images for usage in usages),
        texts=sum(usage.texts for usage in usages),
        truncated=sum(usage.truncated for usage in usages),
    )
