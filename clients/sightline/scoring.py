"""Scores rows in batches, where a row's failure is its own. Knows the client; knows no terminal."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from sightline.client import RewardClient
from sightline.errors import ImageError
from sightline.images import to_image
from sightline.ordered import in_threads
from sightline.rows import BadRow, Row
from sightline_proto import (
    ErrorDetail,
    SentenceRewardItem,
    SentenceRewardRequest,
    SentenceRewardResult,
    TokenRewardItem,
    TokenRewardRequest,
    TokenRewardResult,
    validation_detail,
)

Level = Literal["token", "sentence", "both"]

ROWS_PER_REQUEST = 16
_REQUESTS_AT_ONCE = 4


@dataclass(slots=True)
class ScoredRow:
    """A row with the results per text that were asked for, or with why it has none."""

    row: Row | BadRow
    token: tuple[TokenRewardResult, ...] | None = None
    sentence: tuple[SentenceRewardResult, ...] | None = None
    error: str | None = None


def score_rows(
    client: RewardClient,
    rows: Sequence[Row | BadRow],
    *,
    level: Level = "token",
    profile: str | None = None,
) -> Generator[ScoredRow, None, None]:
    """Yields one outcome per row, in order; an image is read when its batch is sent.

    Raises:
        ServiceError: the service refused a whole batch, or could not be reached.
    """

    def score(batch: Sequence[Row | BadRow]) -> list[ScoredRow]:
        outcomes = [ScoredRow(row) for row in batch]
        asked = [question for outcome in outcomes if (question := _question(outcome)) is not None]
        if asked and level != "sentence":
            _score_tokens(client, asked, profile)
        if asked and level != "token":
            _score_sentences(client, asked)
        return outcomes

    starts = range(0, len(rows), ROWS_PER_REQUEST)
    batches = (rows[start : start + ROWS_PER_REQUEST] for start in starts)
    with closing(in_threads(score, batches, width=_REQUESTS_AT_ONCE)) as scored:
        for outcomes in scored:
            yield from outcomes


@dataclass(frozen=True, slots=True)
class _Question:
    outcome: ScoredRow
    token: TokenRewardItem
    sentence: SentenceRewardItem


def _question(outcome: ScoredRow) -> _Question | None:
    row = outcome.row
    if isinstance(row, BadRow):
        outcome.error = row.message
        return None
    try:
        image = to_image(row.image)
        return _Question(
            outcome,
            TokenRewardItem(image=image, texts=row.texts, token_offsets=row.token_offsets),
            SentenceRewardItem(image=image, texts=row.texts, language_scores=row.language_scores),
        )
    except ImageError as error:
        outcome.error = str(error)
    except ValidationError as error:
        outcome.error = validation_detail(error).message
    return None


def _score_tokens(client: RewardClient, asked: Sequence[_Question], profile: str | None) -> None:
    items = tuple(question.token for question in asked)
    reply = client.send(TokenRewardRequest(items=items, profile=profile))
    for question, answer in zip(asked, reply.items, strict=True):
        question.outcome.token = answer.results
        _note(question.outcome, answer.error)


def _score_sentences(client: RewardClient, asked: Sequence[_Question]) -> None:
    items = tuple(question.sentence for question in asked)
    reply = client.send(SentenceRewardRequest(items=items))
    for question, answer in zip(asked, reply.items, strict=True):
        question.outcome.sentence = answer.results
        _note(question.outcome, answer.error)


def _note(outcome: ScoredRow, error: ErrorDetail | None) -> None:
    if error is not None:
        outcome.error = f"{error.message} ({error.code})"
