"""The client for an event loop: `client.py` with `await`. Knows no HTTP itself."""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Self, cast, overload

import httpx

import sightline_proto as proto
from sightline import questions
from sightline.config import Wire, read_config
from sightline.drivers import AsyncDriver
from sightline.exchange import Exchange
from sightline.images import ImageLike
from sightline.ordered import in_tasks
from sightline.questions import Offsets, Texts
from sightline_proto.endpoints import AnyReply, Rep, Req, Request
from sightline_proto.sentence_reward import Combine


class AsyncRewardClient:
    """`RewardClient` for one event loop: the same arguments and methods, awaited.

    A call that is cancelled lets go of its connection and its place at once. Paths are read and PIL
    images encoded on the loop's thread: make large ones an `Image` with `to_image` elsewhere.
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.config = read_config(base_url, api_key, timeout_s, retries, max_concurrency, wire)
        self._exchange = Exchange(self.config)
        self._driver = AsyncDriver(self.config, transport)

    async def token_reward(
        self,
        image: ImageLike,
        texts: Texts,
        *,
        token_offsets: Sequence[Offsets] | None = None,
        profile: str | None = None,
    ) -> list[proto.TokenRewardResult]:
        """Scores each text's object words (FiSAO): see `questions.token_reward`."""
        request = questions.token_reward(image, texts, token_offsets, profile)
        return list((await self._ask(proto.TOKEN_REWARD, request)).items[0].results or ())

    async def sentence_reward(
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
        return list((await self._ask(proto.SENTENCE_REWARD, request)).items[0].results or ())

    async def ground(
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
        return cast(proto.GroundResult, (await self._ask(proto.GROUND, request)).items[0].result)

    async def perplexity(
        self,
        texts: Texts,
        *,
        image: ImageLike | None = None,
        prompt: str | None = None,
        return_tokens: bool = False,
    ) -> list[proto.PerplexityResult]:
        """Says how surprising each text is to the served model: see `questions.perplexity`."""
        request = questions.perplexity(texts, image, prompt, return_tokens)
        return list((await self._ask(proto.PERPLEXITY, request)).items[0].results or ())

    @overload
    async def send(self, request: proto.TokenRewardRequest) -> proto.TokenRewardReply: ...
    @overload
    async def send(self, request: proto.SentenceRewardRequest) -> proto.SentenceRewardReply: ...
    @overload
    async def send(self, request: proto.GroundRequest) -> proto.GroundReply: ...
    @overload
    async def send(self, request: proto.PerplexityRequest) -> proto.PerplexityReply: ...
    async def send(self, request: Request) -> AnyReply:
        """Asks about a batch; an item that fails carries its error in the reply."""
        return await self._send(questions.endpoint_of(request), request)

    def send_many(
        self, endpoint: proto.Endpoint[Req, Rep], requests: Iterable[Req]
    ) -> AsyncIterator[Rep]:
        """Sends batches side by side and yields the replies in order, for lists of any length."""
        width = self.config.max_concurrency
        return in_tasks(partial(self._send, endpoint), requests, width=width)

    async def info(self) -> proto.ServiceInfo:
        """Asks which models and limits the service has."""
        return await self._driver.run(self._exchange.info())

    async def ready(self) -> bool:
        """Says whether a service answers and has its models loaded."""
        return await self._driver.run(self._exchange.ready())

    async def close(self) -> None:
        """Closes the connections."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        """Returns the client, which is closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        await self.close()

    async def _ask(self, endpoint: proto.Endpoint[Req, Rep], request: Req) -> Rep:
        return (await self._driver.run(self._exchange.ask_one(endpoint, request))).reply

    async def _send(self, endpoint: proto.Endpoint[Req, Rep], request: Req) -> Rep:
        return self._exchange.join(
            await self._driver.run_all(self._exchange.ask(endpoint, request))
        )
