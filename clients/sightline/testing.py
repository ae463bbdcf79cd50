"""A reward service inside the test's own process: no socket, no model. Knows the contract.

service = FakeService(cosine=lambda image, text: 0.3 if text == "dog" else 0.1)
with RewardClient("http://fake", transport=service) as client:
    client.token_reward(b"any bytes", "A dog and a cat.")
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import ValidationError

from sightline import bodies, fake_scores
from sightline.answers import ItemReply
from sightline.config import Wire
from sightline.fake_scores import FAKE_PROFILE, Cosine, hashed_cosine
from sightline.parcels import Item
from sightline_core.entities import load_vocabulary
from sightline_proto import (
    ENDPOINTS,
    ERROR_KINDS,
    ErrorBody,
    ErrorCode,
    GroundItem,
    GroundItemReply,
    GroundRequest,
    Image,
    ModelInfo,
    PerplexityItem,
    PerplexityItemReply,
    PerplexityRequest,
    SentenceRewardItem,
    SentenceRewardItemReply,
    SentenceRewardRequest,
    ServedModel,
    ServiceInfo,
    ServiceLimits,
    TokenRewardItem,
    TokenRewardItemReply,
    Usage,
    error_detail,
    limits,
    sha256_of,
)
from sightline_proto.endpoints import AnyReply, Request
from sightline_proto.message import Message
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, from_protobuf

M = TypeVar("M", bound=Message)

FAKE_MODEL = ModelInfo(id="fake", revision="0", preprocess="none", dtype="float64")


class _RefusedError(Exception):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Failure:
    outcome: int | httpx.TransportError
    code: ErrorCode | None
    headers: Mapping[str, str]


class FakeService(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers every endpoint of the contract; give it to a client as `transport`.

    Scores are made up from the image's bytes and the text, the same on every machine. Image bytes
    need not be an image; those that begin with b"broken" fail their item as unreadable.

    Args:
        cosine: (image bytes, text) -> cosine in [-1, 1]; a hash of both where it is left out.

    Attributes:
        requests: everything that was sent, in order.
        images: all images that came, by their SHA-256; remove one to make the service forget it.
    """

    def __init__(self, cosine: Cosine = hashed_cosine) -> None:
        self.requests: list[httpx.Request] = []
        self.images: dict[str, bytes] = {}
        self._cosine = cosine
        self._vocabulary = load_vocabulary()
        self._failures: deque[_Failure] = deque()

    def fail_next(
        self,
        outcome: int | httpx.TransportError,
        code: ErrorCode | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
    ) -> None:
        """Makes the next requests fail: with a status, or without an answer by raising an error."""
        self._failures.extend([_Failure(outcome, code, headers or {})] * times)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answers a blocking client."""
        request.read()
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answers an asynchronous client."""
        await request.aread()
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self._failures:
            return _failed(self._failures.popleft())
        path = request.url.path.removeprefix("/v1")
        if path in ("/healthz", "/readyz", "/health"):
            return httpx.Response(200, json={"status": "ok"})
        if path == "/info":
            return _message(request, _info())
        if path.startswith("/images/"):
            return self._store(request, path.removeprefix("/images/"))
        for endpoint in ENDPOINTS:
            if path == endpoint.path and request.method == "POST":
                return self._scored(request, endpoint.request, endpoint.reply)
        return _refusal(404, ErrorCode.NOT_FOUND, f"{path} is no path of this service")

    def _store(self, request: httpx.Request, sha256: str) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(200 if sha256 in self.images else 404)
        if sha256_of(request.content) != sha256:
            return _refusal(422, ErrorCode.HASH_MISMATCH, "the bytes have another SHA-256")
        self.images[sha256] = request.content
        return httpx.Response(201)

    def _scored(
        self, request: httpx.Request, kind: type[Request], reply: type[AnyReply]
    ) -> httpx.Response:
        try:
            question = _parsed(kind, request)
        except (ValidationError, ValueError) as error:
            return _refusal(422, ErrorCode.INVALID_FIELD, str(error))
        items: Sequence[Item] = question.items
        answers = [self._item(place, item, question) for place, item in enumerate(items)]
        texts = sum(len(getattr(item, "texts", None) or ()) for item in items)
        return _message(
            request,
            reply.model_validate(
                {
                    "model": FAKE_MODEL,
                    "scale": "cos100",
                    "profile": FAKE_PROFILE.name,
                    "items": answers,
                    "usage": Usage(images=len(answers), texts=texts, truncated=0),
                }
            ),
        )

    def _item(self, place: int, item: Item, question: Request) -> ItemReply:
        kind = _ITEM_REPLIES[type(item)]
        try:
            image = b"" if item.image is None else self._bytes(item.image)
            return kind.model_validate(
                {"index": place, "id": item.id, **self._result(item, image, question)}
            )
        except _RefusedError as refused:
            error = error_detail(refused.code, str(refused), param=f"items[{place}].image")
            return kind.model_validate({"index": place, "id": item.id, "error": error})

    def _bytes(self, image: Image) -> bytes:
        if image.sha256 is None:
            data = image.decode()
            self.images[sha256_of(data)] = data
        elif image.sha256 in self.images:
            data = self.images[image.sha256]
        else:
            raise _RefusedError(ErrorCode.IMAGE_NOT_FOUND, f"no image sha256:{image.sha256}")
        if data.startswith(b"broken"):
            raise _RefusedError(ErrorCode.IMAGE_INVALID, "the bytes are no image")
        return data

    def _result(self, item: Item, image: bytes, question: Request) -> dict[str, object]:
        match item, question:
            case TokenRewardItem(), _:
                results = fake_scores.token_reward(item, image, self._cosine, self._vocabulary)
                return {"results": results}
            case SentenceRewardItem(), SentenceRewardRequest():
                return {"results": fake_scores.sentence_reward(item, image, self._cosine, question)}
            case GroundItem(), GroundRequest():
                result = fake_scores.ground(item, image, self._cosine, question, self._vocabulary)
                return {"result": result}
            case PerplexityItem(), PerplexityRequest():
                tokens = question.return_tokens
                return {"results": fake_scores.perplexity(item, image, self._cosine, tokens)}
            case _:
                raise AssertionError("a request holds items of its own kind")


_ITEM_REPLIES: dict[type[Item], type[ItemReply]] = {
    TokenRewardItem: TokenRewardItemReply,
    SentenceRewardItem: SentenceRewardItemReply,
    GroundItem: GroundItemReply,
    PerplexityItem: PerplexityItemReply,
}


def _parsed(kind: type[M], request: httpx.Request) -> M:
    if request.headers.get("Content-Type") == CONTENT_TYPE_PROTOBUF:
        return from_protobuf(kind, request.content)
    return kind.model_validate_json(request.content)


def _message(request: httpx.Request, message: Message) -> httpx.Response:
    wire: Wire = (
        "protobuf" if CONTENT_TYPE_PROTOBUF in request.headers.get("Accept", "") else "json"
    )
    return httpx.Response(
        200,
        content=bodies.encode(message, wire),
        headers={"Content-Type": bodies.CONTENT_TYPES[wire]},
    )


def _refusal(status: int, code: ErrorCode, message: str) -> httpx.Response:
    body = ErrorBody(error=error_detail(code, message))
    return httpx.Response(status, json=body.model_dump())


def _failed(failure: _Failure) -> httpx.Response:
    if isinstance(failure.outcome, httpx.TransportError):
        raise failure.outcome
    if failure.code is None:
        return httpx.Response(failure.outcome, headers=failure.headers, text="refused")
    kind = ERROR_KINDS[failure.code]
    body = ErrorBody(error=error_detail(failure.code, f"refused as asked ({kind.type})"))
    return httpx.Response(failure.outcome, headers=failure.headers, json=body.model_dump())


def _info() -> ServiceInfo:
    endpoints = tuple(endpoint.path for endpoint in ENDPOINTS)
    return ServiceInfo(
        version="0",
        models=(ServedModel(role="similarity", model=FAKE_MODEL, endpoints=endpoints),),
        profiles=(FAKE_PROFILE.name,),
        image_formats=("PNG",),
        limits=ServiceLimits(
            items=limits.ITEMS,
            texts=limits.TEXTS,
            text_chars=limits.TEXT_CHARS,
            token_offsets=limits.TOKENS,
            body_bytes=limits.IMAGE_BYTES,
            image_bytes=limits.IMAGE_BYTES,
            image_pixels=40_000_000,
            max_boxes=limits.MAX_BOXES,
            concurrent_requests=64,
            queued_items=512,
            request_timeout_s=60.0,
            image_store_bytes=limits.IMAGE_BYTES,
            embedding_cache_bytes=0,
        ),
    )
