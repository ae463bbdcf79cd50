"""The blocking client: one method per endpoint over the shared exchange. Knows no HTTP itself."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Self, cast, overload

import httpx

import sightline_proto as proto
from sightline import questions
from sightline.config import Wire, read_config
from sightline.drivers import BlockingDriver
from sightline.exchange import Exchange
from sightline.images import ImageLike
from sightline.ordered import in_threads
from sightline.questions import Offsets, Texts
from sightline_proto.endpoints import AnyReply, Rep, Req, Request
from sightline_proto.sentence_reward import Combine


class RewardClient:
    """Asks a reward service. Safe for threads; connections are kept until `close`.

    Each request may take `timeout_s` seconds with all its retries, counted from the moment when one
    of the `max_concurrency` places is free. Failures raise a `SightlineError` (the tree is in
    `sightline.errors`), arguments that no service would take a `ValueError`.

    Args:
        base_url: one URL, several of equal services, or None for REWARD_URL (comma-separated).
        api_key: sent as a bearer token; None for REWARD_API_KEY.
        timeout_s: seconds for one request and its retries.
        retries: further attempts for failures that may pass.
        max_concurrency: requests in flight at once, over all threads.
        wire: "protobuf" or "json"; the scores are the same.
        transport: replaces the network, for instance by `sightline.testing.FakeService`.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 4,
        max_concurrency: int = 32,
        wire: Wire = "protobuf",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.config = read_config(base_url, api_key, timeout_s, retries, max_concurrency, wire)
        self._exchange = Exchange(self.config)
        self._driver = BlockingDriver(self.config, transport)

    def token_reward(
        self,
        image: ImageLike,
        texts: Texts,
        *,
        token_offsets: Sequence[Offsets] | None = None,
        profile: str | None = None,
    ) -> list[proto.TokenRewardResult]:
        """Scores each text's object words (FiSAO): see `questions.token_reward`."""
        request = questions.token_reward(image, texts, token_offsets, profile)
        return list(self._ask(proto.TOKEN_REWARD, request).items[0].results or ())

    def sentence_reward(
        self,
        image: ImageLike,
        texts: Texts,
        *,
        language_scores: Sequence[float] | None = None,
        weight: float = 0.9,
        combine: Combine = "rank",
    ) -> list[proto.SentenceRewardResult]:
        """Scores texts and their sentences (CSR, ASPO): see `questions.sentence_reward`."""
        request = questions.sentence_reward(image, texts, language_scores, weight, combine)
        return list(self._ask(proto.SENTENCE_REWARD, request).items[0].results or ())

    def ground(
        self,
        image: ImageLike,
        phrases: Texts | None = None,
        *,
        text: str | None = None,
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
        nms_iou: float = 0.7,
        max_boxes: int = 20,
    ) -> proto.GroundResult:
        """Finds phrases, or the objects that a text names (SVP): see `questions.ground`."""
        thresholds = (box_threshold, text_threshold, nms_iou)
        request = questions.ground(image, phrases, text, thresholds, max_boxes)
        return cast(proto.GroundResult, self._ask(proto.GROUND, request).items[0].result)

    def perplexity(
        self,
        texts: Texts,
        *,
        image: ImageLike | None = None,
        prompt: str | None = None,
        return_tokens: bool = False,
    ) -> list[proto.PerplexityResult]:
        """Says how surprising each text is to the served model: see `questions.perplexity`."""
        request = questions.perplexity(texts, image, prompt, return_tokens)
        return list(self._ask(proto.PERPLEXITY, request).items[0].results or ())

    @overload
    def send(self, request: proto.TokenRewardRequest) -> proto.TokenRewardReply: ...
    @overload
    def send(self, request: proto.SentenceRewardRequest) -> proto.SentenceRewardReply: ...
    @overload
    def send(self, request: proto.GroundRequest) -> proto.GroundReply: ...
    @overload
    def send(self, request: proto.PerplexityRequest) -> proto.PerplexityReply: ...
    def send(self, request: Request) -> AnyReply:
        """Asks about a batch; an item that fails carries its error in the reply."""
        return self._send(questions.endpoint_of(request), request)

    def send_many(
        self, endpoint: proto.Endpoint[Req, Rep], requests: Iterable[Req]
    ) -> Iterator[Rep]:
        """Sends batches side by side and yields the replies in order, for lists of any length."""
        width = self.config.max_concurrency
        return in_threads(partial(self._send, endpoint), requests, width=width)

    def info(self) -> proto.ServiceInfo:
        """Asks which models and limits the service has."""
        return self._driver.run(self._exchange.info())

    def ready(self) -> bool:
        """Says whether a service answers and has its models loaded."""
        return self._driver.run(self._exchange.ready())

    def close(self) -> None:
        """Closes the connections."""
        self._driver.close()

    def __enter__(self) -> Self:
        """Returns the client, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connections."""
        self.close()

    def _ask(self, endpoint: proto.Endpoint[Req, Rep], request: Req) -> Rep:
        return self._driver.run(self._exchange.ask_one(endpoint, request)).reply

    def _send(self, endpoint: proto.Endpoint[Req, Rep], request: Req) -> Rep:
        return self._exchange.join(self._driver.run_all(self._exchange.ask(endpoint, request)))
