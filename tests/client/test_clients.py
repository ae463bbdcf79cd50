"""Both clients by the same table: what one does, the other does."""

import ast
import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import ClassVar

import httpx
import pytest

from sightline import AsyncRewardClient, RewardClient, async_client, client, errors
from sightline.fake_scores import hashed_cosine
from sightline.testing import FakeService
from sightline_proto import (
    GROUND,
    PERPLEXITY,
    SENTENCE_REWARD,
    TOKEN_REWARD,
    ErrorCode,
    GroundItem,
    GroundRequest,
    Image,
    PerplexityItem,
    PerplexityRequest,
    SentenceRewardItem,
    SentenceRewardRequest,
    TokenRewardItem,
    TokenRewardRequest,
)

TEXT = "A dog and a cat."


class Both:
    """Makes one call with one of the two clients, which is closed afterwards."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, service, call: Callable, url="http://fake", **options):
        if self.kind == "sync":
            with RewardClient(url, transport=service, **options) as asked:
                return call(asked)

        async def run():
            async with AsyncRewardClient(url, transport=service, **options) as asked:
                return await call(asked)

        return asyncio.run(run())

    def send_many(self, service, endpoint, requests, **options):
        if self.kind == "sync":
            return self(service, lambda c: list(c.send_many(endpoint, requests)), **options)

        async def collect(asked):
            return [reply async for reply in asked.send_many(endpoint, requests)]

        return self(service, collect, **options)


@pytest.fixture(params=["sync", "async"])
def both(request) -> Both:
    return Both(request.param)


@pytest.fixture(params=["json", "protobuf"])
def wire(request) -> str:
    return request.param


def tokens(*images: bytes) -> TokenRewardRequest:
    items = tuple(TokenRewardItem(image=Image(image), texts=(TEXT,)) for image in images)
    return TokenRewardRequest(items=items)


def test_token_rewards_come_per_token_that_was_given(both, wire):
    [result] = both(
        FakeService(lambda image, text: {"dog": 0.29, "cat": 0.11}[text]),
        lambda c: c.token_reward(b"x", TEXT, token_offsets=[[(0, 1), (1, 5), (5, 11), (11, 16)]]),
        wire=wire,
    )
    # FAKE_PROFILE: above 22 + 1, up to 35; below 18 - 1, down to 5
    assert result.token_rewards == pytest.approx((0.0, (29 - 23) / 12, 0.0, (11 - 17) / 12))
    assert [(span.text, span.start, span.end) for span in result.spans] == [
        ("dog", 2, 5),
        ("cat", 12, 15),
    ]


def test_sentence_rewards_are_combined_with_language_scores(both, wire):
    results = both(
        FakeService(lambda image, text: {"A": 0.1, "B": 0.2, "C": 0.3}[text]),
        lambda c: c.sentence_reward(b"x", ["B", "A", "C"], language_scores=[1, 2, 3], weight=0.75),
        wire=wire,
    )
    assert [result.score for result in results] == pytest.approx([20.0, 10.0, 30.0])
    assert [result.calibrated for result in results] == pytest.approx(
        [0.25 * 0 + 0.75 * 0.5, 0.25 * 0.5 + 0.75 * 0, 1.0]
    )


def test_grounding_takes_one_phrase_several_or_a_text(both, wire):
    service = FakeService(lambda image, text: 0.3 if text == "dog" else 0.1)
    one = both(service, lambda c: c.ground(b"x", "dog"), wire=wire)
    several = both(service, lambda c: c.ground(b"x", ["cat", "dog"]), wire=wire)
    text = both(service, lambda c: c.ground(b"x", text=TEXT, box_threshold=0.2), wire=wire)
    assert [found.phrase for found in one.detections] == ["dog"]
    assert one == several
    assert [found.phrase for found in text.detections] == ["dog", "cat"]


def test_perplexity_needs_no_image_and_can_name_tokens(both, wire):
    service = FakeService(lambda image, text: 0.1 if image else 0.2)
    [blind] = both(service, lambda c: c.perplexity("One two."), wire=wire)
    [seeing] = both(
        service,
        lambda c: c.perplexity(["One two."], image=b"x", prompt="Say.", return_tokens=True),
        wire=wire,
    )
    assert (blind.log_prob, blind.tokens) == (-4.0, None)
    assert seeing.log_prob == -2.0
    assert seeing.tokens is not None
    assert [token.text for token in seeing.tokens] == ["One ", "two."]


def test_both_wires_give_the_same_scores(both):
    replies = [
        both(FakeService(), lambda c: c.send(tokens(b"x", b"y")), wire=wire)
        for wire in ("json", "protobuf")
    ]
    assert replies[0] == replies[1]
    assert replies[0].items[0].results[0].spans[0].cosine == hashed_cosine(b"x", "dog")


@pytest.mark.parametrize(
    ("endpoint", "request_message"),
    [
        (TOKEN_REWARD, tokens(b"x")),
        (
            SENTENCE_REWARD,
            SentenceRewardRequest(items=(SentenceRewardItem(image=Image(b"x"), texts=(TEXT,)),)),
        ),
        (GROUND, GroundRequest(items=(GroundItem(image=Image(b"x"), phrases=("dog",)),))),
        (PERPLEXITY, PerplexityRequest(items=(PerplexityItem(texts=(TEXT,)),))),
    ],
)
def test_any_request_message_may_be_sent(both, wire, endpoint, request_message):
    reply = both(FakeService(), lambda c: c.send(request_message), wire=wire)
    assert isinstance(reply, endpoint.reply)
    assert reply.items[0].error is None


def test_a_batch_keeps_its_failures_and_a_single_item_raises_its_own(both, wire):
    service = FakeService()
    reply = both(service, lambda c: c.send(tokens(b"x", b"broken", b"y")), wire=wire)
    assert [item.error.code if item.error else None for item in reply.items] == [
        None,
        "image_invalid",
        None,
    ]
    with pytest.raises(errors.ItemError, match="no image"):
        both(service, lambda c: c.token_reward(b"broken", TEXT), wire=wire)


def test_a_refusal_is_raised_and_a_passing_failure_is_not(both, wire):
    service = FakeService()
    service.fail_next(503, ErrorCode.DRAINING, headers={"Retry-After": "0"})
    service.fail_next(httpx.ConnectError("refused"))
    assert both(service, lambda c: c.token_reward(b"x", TEXT), wire=wire)
    assert len(service.requests) == 3
    service.fail_next(404, ErrorCode.PROFILE_NOT_FOUND)
    with pytest.raises(errors.InvalidRequestError) as caught:
        both(service, lambda c: c.token_reward(b"x", TEXT, profile="gone"), wire=wire)
    assert (caught.value.code, caught.value.attempts) == ("profile_not_found", 1)


def test_an_image_the_service_forgot_is_uploaded(both, wire):
    service = FakeService()

    def twice(c):
        if both.kind == "sync":
            answer = c.token_reward(b"x", TEXT)
            service.images.clear()
            return answer, c.token_reward(b"x", TEXT)

        async def run():
            answer = await c.token_reward(b"x", TEXT)
            service.images.clear()
            return answer, await c.token_reward(b"x", TEXT)

        return run()

    first, second = both(service, twice, wire=wire)
    assert first == second
    assert [request.method for request in service.requests] == ["POST", "POST", "PUT", "POST"]


def test_a_cut_batch_comes_back_in_order(both, wire, monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 100)
    service = FakeService()
    images = [b"%02d" % number * 40 for number in range(20)]
    reply = both(service, lambda c: c.send(tokens(*images)), wire=wire)
    assert len(service.requests) == 20
    expected = [hashed_cosine(image, "dog") for image in images]
    assert [item.results[0].spans[0].cosine for item in reply.items] == expected
    assert [item.index for item in reply.items] == list(range(20))


def test_many_batches_come_back_in_order(both, wire):
    images = [b"%d" % number for number in range(30)]
    requests = (tokens(image) for image in images)
    replies = both.send_many(FakeService(), TOKEN_REWARD, requests, wire=wire, max_concurrency=4)
    got = [reply.items[0].results[0].spans[0].cosine for reply in replies]
    assert got == [hashed_cosine(image, "dog") for image in images]


def test_info_and_readiness(both, wire):
    service = FakeService()
    assert both(service, lambda c: c.info(), wire=wire).profiles == ("fake",)
    assert both(service, lambda c: c.ready(), wire=wire) is True
    service.fail_next(httpx.ConnectError("refused"))
    assert both(service, lambda c: c.ready(), wire=wire) is False


def test_arguments_that_no_service_would_take_are_refused_here(both):
    service = FakeService()
    for call in (
        lambda c: c.token_reward(b"x", []),
        lambda c: c.token_reward(b"x", ["a", "b"], token_offsets=[[(0, 1)]]),
        lambda c: c.token_reward(b"x", "a", token_offsets=[[(0, 9)]]),
        lambda c: c.ground(b"x"),
        lambda c: c.ground(b"x", "dog", text="dog"),
        lambda c: c.sentence_reward(b"x", ["a"], language_scores=[1.0, 2.0]),
        lambda c: c.token_reward("/no/such/image.png", "a"),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            both(service, call)
    with pytest.raises(TypeError, match="give one of the four request messages"):
        both(service, lambda c: c.send("hello"))
    assert service.requests == []


class SlowService(FakeService):
    """Answers slowly and counts how many requests it holds at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.most = 0
        self._lock = threading.Lock()

    def _enter(self) -> None:
        with self._lock:
            self.held += 1
            self.most = max(self.most, self.held)

    def handle_request(self, request):
        self._enter()
        time.sleep(0.01)
        self.held -= 1
        return super().handle_request(request)

    async def handle_async_request(self, request):
        self._enter()
        try:
            await asyncio.sleep(0.01)
        finally:
            self.held -= 1
        return await super().handle_async_request(request)


def test_no_more_requests_are_in_flight_than_allowed(both, monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 1)
    service = SlowService()
    both(service, lambda c: c.send(tokens(*map(bytes, range(1, 20)))), max_concurrency=3)
    assert service.most == 3


def test_threads_share_the_bound():
    service = SlowService()
    with RewardClient("http://fake", transport=service, max_concurrency=2) as shared:
        threads = [
            threading.Thread(target=shared.token_reward, args=(b"%d" % number, TEXT))
            for number in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert service.most == 2
    assert len(service.requests) == 10


def test_a_cancelled_call_gives_back_its_place():
    service = SlowService()

    async def run() -> None:
        options = {"transport": service, "max_concurrency": 1}
        async with AsyncRewardClient("http://fake", **options) as asked:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.002):
                    await asked.token_reward(b"x", TEXT)
            assert service.held == 0
            assert await asked.token_reward(b"x", TEXT)

    asyncio.run(run())


def test_the_first_failure_of_a_cut_batch_ends_the_others(both, monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 1)
    service = SlowService()
    service.fail_next(422, ErrorCode.INVALID_FIELD, times=1)
    with pytest.raises(errors.InvalidRequestError):
        both(service, lambda c: c.send(tokens(*map(bytes, range(1, 40)))), max_concurrency=2)
    assert len(service.requests) < 39


def test_a_closed_client_closes_its_transport(both):
    class Closing(FakeService):
        closed = False

        def close(self) -> None:
            self.closed = True

        async def aclose(self) -> None:
            self.closed = True

    service = Closing()
    both(service, lambda c: c.ready())
    assert service.closed


class WithoutAwait(ast.NodeTransformer):
    """Turns the asynchronous client's methods into what the blocking client should be."""

    twins: ClassVar = {
        "AsyncIterator": "Iterator",
        "AsyncDriver": "BlockingDriver",
        "AsyncBaseTransport": "BaseTransport",
        "in_tasks": "in_threads",
        "__aenter__": "__enter__",
        "__aexit__": "__exit__",
    }

    def visit_Await(self, node):
        return self.visit(node.value)

    def visit_AsyncFunctionDef(self, node):
        plain = ast.FunctionDef(**{field: getattr(node, field) for field in node._fields})
        plain.name = self.twins.get(plain.name, plain.name)
        return self.generic_visit(plain)

    def visit_Name(self, node):
        return ast.Name(self.twins.get(node.id, node.id), node.ctx)

    def visit_Attribute(self, node):
        node.attr = self.twins.get(node.attr, node.attr)
        return self.generic_visit(node)


def test_the_two_clients_differ_only_by_await():
    def methods(module) -> list[str]:
        tree = WithoutAwait().visit(ast.parse(inspect.getsource(module)))
        [shell] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        return [ast.dump(node) for node in shell.body[1:]]

    assert len(methods(client)) > 10
    assert methods(client) == methods(async_client)


@pytest.mark.parametrize("module", [client, async_client])
def test_a_client_stays_thin(module):
    assert len(inspect.getsource(module).splitlines()) < 150
