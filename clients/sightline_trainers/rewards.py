"""Asks the reward service in the background, and waits out its absence. Knows the SDK; no torch.

A reward is never silently zero: what cannot be scored raises. An answer in which nothing could be
scored (an empty completion) is zero by definition and is not sent.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypeVar

from sightline import (
    DeadlineError,
    Image,
    OverloadedError,
    RewardClient,
    ServiceError,
    UnavailableError,
    UnreachableError,
)
from sightline.config import GivenUrl
from sightline_core.alignment import Assign, align_rewards
from sightline_core.fisao import Profile, span_reward, to_scale
from sightline_proto import (
    ERROR_KINDS,
    ErrorDetail,
    ModelInfo,
    SentenceRewardItem,
    SentenceRewardRequest,
    SentenceRewardResult,
    ServiceInfo,
    SpanReward,
    TokenRewardItem,
    TokenRewardRequest,
)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 30.0
_MAY_PASS = {code.value: kind.retryable for code, kind in ERROR_KINDS.items()}
_IN_FLIGHT = 4

T = TypeVar("T")


class RewardOutageError(RuntimeError):
    """The service did not come back in time."""


class RewardRefusedError(RuntimeError):
    """The service will not score a response, or its answer cannot be used."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """How rewards are asked for.

    Raises:
        ValueError: a value is out of range, or a margin has no profile to replace it in.
    """

    url: str | None = None
    """The service, several separated by commas; REWARD_URL where it is left out."""
    timeout_s: float = 60.0
    """For one request with its retries."""
    patience_s: float = 900.0
    """How long the service may be away before the run stops."""
    profile: str | None = None
    """A calibration profile that the service has, by name; its default where it is left out."""
    profile_file: Path | None = None
    """A calibration profile to apply on this side to the service's cosines."""
    margin: float | None = None
    """Replaces the file's margin (lambda), on the file's scale."""
    assign: Assign = "last"
    """Which token of a word of several tokens is rewarded."""
    entities: tuple[str, ...] | None = None
    """Reward these objects only, by canonical name."""
    mentions: Literal["every", "first"] = "every"
    """Reward every mention of an object, or a response's first; later ones then earn nothing."""

    def __post_init__(self) -> None:
        """Refuses what cannot be asked."""
        if self.patience_s < 0 or self.timeout_s <= 0:
            raise ValueError(
                f"reward.patience_s is {self.patience_s} and timeout_s {self.timeout_s}: "
                "give 0 or more, and more than 0"
            )
        if self.margin is not None and self.profile_file is None:
            raise ValueError(
                f"reward.margin is {self.margin} without reward.profile_file: name the profile "
                "whose margin it replaces"
            )
        if self.profile is not None and self.profile_file is not None:
            raise ValueError("reward.profile and reward.profile_file are both given: choose one")

    def read_profile(self) -> Profile | None:
        """The profile to apply on this side, with the margin; None where the service's counts."""
        if self.profile_file is None:
            return None
        profile = Profile.from_json(self.profile_file.read_text(encoding="utf-8"))
        return profile if self.margin is None else replace(profile, margin=self.margin)


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled text with its image; `token_offsets` has one range per sampled id."""

    origin: str
    image: Image
    text: str
    token_offsets: tuple[tuple[int, int], ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to score."""
        return not self.text.strip()


@dataclass(frozen=True, slots=True)
class Grades:
    """One response's grades, one per sampled id.

    Attributes:
        values: rewards in [-1, 1], or scores of sentences or responses (100 * cosine); else 0.
        graded: whether the id carries one: it ends an object word, a sentence, or the response.
        spans: the object words that were rewarded, with their rewards.
    """

    values: tuple[float, ...]
    graded: tuple[bool, ...]
    spans: tuple[SpanReward, ...] = ()


class RewardSource:
    """A reward service that is asked in the background and may be away for a while.

    Args:
        config: where it is and what is asked.
        client: replaces the client that the config describes.
        say: shows a line to the person who watches the run.
    """

    def __init__(
        self,
        config: RewardConfig,
        *,
        client: RewardClient | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._profile = config.read_profile()
        url = None if config.url is None else GivenUrl(config.url, "reward.url")
        self._client = client or RewardClient(url, timeout_s=config.timeout_s)
        self._say = say
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="rewards")
        self._closed = threading.Event()
        self.waited_s = 0.0
        """Seconds for which the run stood still for rewards."""

    def info(self) -> ServiceInfo:
        """What the service serves, for the run's manifest; waits until it is there."""
        return self._patiently(self._client.info)

    def ask_tokens(self, responses: Sequence[Response]) -> "Future[list[Grades]]":
        """Asks /token_reward about each response, in the background: the objects' rewards."""
        return self._pool.submit(self._patiently, lambda: self._token_grades(responses))

    def ask_sentences(self, responses: Sequence[Response]) -> "Future[list[Grades]]":
        """Asks /sentence_reward about each response, in the background: the sentences' scores."""
        return self._pool.submit(self._patiently, lambda: self._text_grades(responses, _sentences))

    def ask_responses(self, responses: Sequence[Response]) -> "Future[list[Grades]]":
        """Asks /sentence_reward about each response, in the background: one score for all of it."""
        return self._pool.submit(self._patiently, lambda: self._text_grades(responses, _whole))

    def wait(self, answer: "Future[list[T]]") -> list[T]:
        """The answer, when it is there.

        Raises:
            RewardOutageError: the service was away for longer than `patience_s`.
            RewardRefusedError: a response cannot be scored.
        """
        started = time.monotonic()
        try:
            return answer.result()
        finally:
            self.waited_s += time.monotonic() - started

    def close(self) -> None:
        """Gives up what is under way."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def __enter__(self) -> Self:
        """Returns the source, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Asks until there is an answer, with growing pauses while the service is away."""
        away_since: float | None = None
        delay = _FIRST_DELAY_S
        while True:
            try:
                answer = ask()
            except ServiceError as error:
                if not _may_pass(error):
                    raise RewardRefusedError(str(error)) from error
                away_since = time.monotonic() if away_since is None else away_since
                self._pause(error, time.monotonic() - away_since, delay)
                delay = min(2 * delay, _LONGEST_DELAY_S)
                continue
            if away_since is not None:
                self._say(
                    f"The reward service is back after {time.monotonic() - away_since:.0f} s."
                )
            return answer

    def _pause(self, error: ServiceError, away_s: float, delay: float) -> None:
        patience = self._config.patience_s
        if away_s >= patience:
            raise RewardOutageError(
                f"the reward service has been away for {away_s:.0f} s ({error}): start it again, "
                "then go on from the checkpoint with --resume"
            ) from error
        delay = min(delay, patience - away_s)
        self._say(
            f"The reward service does not answer ({error}). The run waits and asks again in "
            f"{delay:.0f} s, until {patience:.0f} s have passed."
        )
        if self._closed.wait(delay):
            raise RewardOutageError("the run was closed while it waited for rewards") from error

    def _token_grades(self, responses: Sequence[Response]) -> list[Grades]:
        asked = [response for response in responses if not response.empty]
        if not asked:
            return _with_empty(responses, [])
        items = tuple(
            TokenRewardItem(
                image=each.image, texts=(each.text,), token_offsets=(each.token_offsets,)
            )
            for each in asked
        )
        request = TokenRewardRequest(items=items, profile=self._config.profile)
        reply = self._client.send(request)
        self._check_model(reply.model)
        graded: list[Grades] = []
        for response, item in zip(asked, reply.items, strict=True):
            result = _one(response, item.results, item.error)
            graded.append(self._objects(response, result.spans, result.token_rewards))
        return _with_empty(responses, graded)

    def _objects(
        self,
        response: Response,
        spans: Sequence[SpanReward],
        token_rewards: Sequence[float] | None,
    ) -> Grades:
        config = self._config
        kept = [each for each in spans if config.entities is None or each.entity in config.entities]
        if config.mentions == "first":
            firsts = {each.entity: each for each in reversed(kept)}
            kept = sorted(firsts.values(), key=lambda span: span.start)
        rewards = [self._reward_of(span) for span in kept]
        placed = _place(response, [(span.start, span.end) for span in kept], rewards, config.assign)
        rewarded = [
            span.model_copy(update={"reward": reward})
            for span, reward in zip(kept, rewards, strict=True)
        ]
        grades = replace(placed, spans=tuple(rewarded))
        asked_for = self._profile is None and config.assign == "last" and len(kept) == len(spans)
        if asked_for and token_rewards is not None:
            return replace(grades, values=tuple(token_rewards))
        return grades

    def _reward_of(self, span: SpanReward) -> float:
        if self._profile is not None:
            if span.cosine is None:
                raise RewardRefusedError(_NO_COSINE)
            score = to_scale(span.cosine, self._profile.scale)
            return span_reward(score, self._profile)[0]
        if span.reward is None:
            raise RewardRefusedError(_NO_PROFILE)
        return span.reward

    def _check_model(self, served: ModelInfo) -> None:
        """A profile belongs to one model: on another's scores its thresholds mean nothing."""
        profile = self._profile
        if profile is not None and profile.model_revision not in ("", served.revision):
            raise RewardRefusedError(
                f"reward.profile_file is of model {profile.model_id} ({profile.model_revision}), "
                f"but the service scores with {served.id} ({served.revision}): calibrate again"
            )

    def _text_grades(self, responses: Sequence[Response], parts: "_Scored") -> list[Grades]:
        asked = [response for response in responses if not response.empty]
        if not asked:
            return _with_empty(responses, [])
        items = tuple(SentenceRewardItem(image=each.image, texts=(each.text,)) for each in asked)
        reply = self._client.send(SentenceRewardRequest(items=items))
        graded: list[Grades] = []
        for response, item in zip(asked, reply.items, strict=True):
            scored = parts(response.text, _one(response, item.results, item.error))
            graded.append(_place(response, list(scored), list(scored.values()), "last"))
        return _with_empty(responses, graded)


_Scored = Callable[[str, SentenceRewardResult], dict[tuple[int, int], float]]
"""(text, its reward) -> the score of each range [start, end) of the text that has one."""


def _sentences(_: str, reward: SentenceRewardResult) -> dict[tuple[int, int], float]:
    found = [each for each in reward.sentences if each.text.strip()]
    return {(each.start, each.start + len(each.text.rstrip())): each.score for each in found}


def _whole(text: str, reward: SentenceRewardResult) -> dict[tuple[int, int], float]:
    return {(0, len(text.rstrip())): reward.score}


def _place(
    response: Response,
    ranges: Sequence[tuple[int, int]],
    values: Sequence[float],
    assign: Assign,
) -> Grades:
    offsets = response.token_offsets
    ones = align_rewards(ranges, [1.0] * len(ranges), offsets, assign=assign)
    placed = align_rewards(ranges, values, offsets, assign=assign)
    return Grades(placed, tuple(one > 0 for one in ones))


def _with_empty(responses: Sequence[Response], graded: Sequence[Grades]) -> list[Grades]:
    """The grades of all responses, where the empty ones were not asked about and have none."""
    answers = iter(graded)
    return [
        Grades((0.0,) * len(each.token_offsets), (False,) * len(each.token_offsets))
        if each.empty
        else next(answers)
        for each in responses
    ]


_NO_PROFILE = (
    "the service has no calibration profile for its model, so it gives scores but no rewards: "
    "run `sightline calibrate`, or name one in reward.profile_file"
)

_NO_COSINE = (
    "reward.profile_file is about cosines, but the service scores words by its detector: "
    "leave reward.profile_file out, or serve with --token-scorer similarity"
)


class _ItemFailedError(ServiceError):
    """One response's own failure, which may pass."""


def _one(response: Response, results: Sequence[T] | None, error: ErrorDetail | None) -> T:
    """The result of the only text of an item."""
    if error is not None:
        message = f"{response.origin}: {error.message} ({error.code})"
        if _MAY_PASS.get(error.code, False):
            raise _ItemFailedError(message)
        raise RewardRefusedError(message)
    assert results is not None
    assert len(results) == 1
    return results[0]


def _may_pass(error: ServiceError) -> bool:
    """Whether the service is away, rather than unwilling."""
    if isinstance(error, UnreachableError | DeadlineError | OverloadedError | _ItemFailedError):
        return True
    return isinstance(error, UnavailableError) and _MAY_PASS.get(error.code or "", True)
