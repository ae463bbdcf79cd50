"""The scoring endpoints: read, admit, score, reply. Knows HTTP; knows no formulas."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_proto import (
    ENDPOINTS,
    GROUND,
    PERPLEXITY,
    SENTENCE_REWARD,
    TOKEN_REWARD,
    Endpoint,
    GroundReply,
    GroundRequest,
    PerplexityReply,
    PerplexityRequest,
    SentenceRewardReply,
    SentenceRewardRequest,
    TokenRewardReply,
    TokenRewardRequest,
)
from sightline_service.admission import cost_of
from sightline_service.body import read_message, write_message
from sightline_service.engine import Engine
from sightline_service.service import Service

Req = TypeVar("Req", TokenRewardRequest, SentenceRewardRequest, GroundRequest, PerplexityRequest)
Rep = TypeVar("Rep", TokenRewardReply, SentenceRewardReply, GroundReply, PerplexityReply)


def service_of(request: Request) -> Service:
    """Returns the service that this app runs."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def token_reward(request: Request) -> Response:
    """Scores the object words of texts against images (FiSAO, Eq. 11-12)."""
    return await _answer(request, TOKEN_REWARD, Engine.token_reward)


async def sentence_reward(request: Request) -> Response:
    """Scores texts and their sentences against images (CSR, Eq. 2-3; ASPO, S')."""
    return await _answer(request, SENTENCE_REWARD, Engine.sentence_reward)


async def ground(request: Request) -> Response:
    """Finds phrases, or the objects that a text names, in images (SVP)."""
    return await _answer(request, GROUND, Engine.ground)


async def perplexity(request: Request) -> Response:
    """Scores texts by teacher forcing, with or without an image (ASPO, PPL')."""
    return await _answer(request, PERPLEXITY, Engine.perplexity)


async def _answer(
    request: Request,
    endpoint: Endpoint[Req, Rep],
    score: Callable[[Engine, Req], Awaitable[Rep]],
) -> Response:
    service = service_of(request)
    engine = service.engine
    message = await read_message(request, endpoint.request, service.preparer)
    with service.admission.work(cost_of(message)):
        reply = await score(engine, message)
        service.metrics.observe_items(endpoint.name, reply)
        return await write_message(request, reply, service.preparer, asked=message)


HANDLERS: dict[str, Callable[[Request], Awaitable[Response]]] = {
    TOKEN_REWARD.name: token_reward,
    SENTENCE_REWARD.name: sentence_reward,
    GROUND.name: ground,
    PERPLEXITY.name: perplexity,
}


HANDLER_OF_PATH = {
    path: HANDLERS[endpoint.name]
    for endpoint in ENDPOINTS
    for path in (endpoint.path, f"/v1{endpoint.path}")
}


def scoring_router() -> APIRouter:
    """Returns the scoring endpoints, on their short paths and under /v1."""
    router = APIRouter(tags=["scoring"])
    for path, handler in HANDLER_OF_PATH.items():
        router.add_api_route(path, handler, methods=["POST"])
    return router


class DirectRoutes:
    """Answers what is posted to the scoring endpoints, and passes everything else on.

    The framework's own way to a handler, past exit stacks, dependencies and a scan of all routes,
    takes longer than a small request's scoring.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the handler of a scoring path, or else the app."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        handler = HANDLER_OF_PATH.get(scope["path"]) if is_post else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)
