"""The flows, driven by hand: a clock that moves only in pauses and slow answers, no socket."""

import json

import httpx
import pytest

from sightline import errors, questions
from sightline.config import ClientConfig
from sightline.delivery import Delivery, Pause
from sightline.exchange import Exchange
from sightline.replicas import BREAK_S
from sightline.testing import FakeService
from sightline_proto import (
    PERPLEXITY,
    TOKEN_REWARD,
    ErrorCode,
    Image,
    TokenRewardItem,
    TokenRewardRequest,
    sha256_of,
)

A, B = "http://a", "http://b"
IMAGE = "X-Sightline-Image"


class Driver:
    """Runs flows against one fake service per URL, on a clock of its own."""

    def __init__(self, *urls: str, answer_s: float = 0.0, **config) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.services = {url: FakeService() for url in urls or (A,)}
        self.asked: list[str] = []
        self.answer_s = answer_s
        options = {"timeout_s": 60.0, "wire": "json", **config}
        settings = ClientConfig(base_urls=tuple(self.services), **options)
        delivery = Delivery(settings, clock=lambda: self.now, draw=lambda: 0.5)
        self.exchange = Exchange(settings, delivery)

    @property
    def service(self) -> FakeService:
        return self.services[A]

    def run(self, flow):
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = self.perform(step)

    def perform(self, step):
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        self.now += self.answer_s
        url = f"{step.url.scheme}://{step.url.host}"
        self.asked.append(url)
        try:
            response = self.services[url].handle_request(step)
        except httpx.TransportError as error:
            return error
        response.request = step
        return response

    def send(self, request):
        parts = [self.run(flow) for flow in self.exchange.ask(TOKEN_REWARD, request)]
        return self.exchange.join(parts)

    def score(self, *images: bytes | Image):
        return self.send(batch(*images))

    def sent(self, number: int = -1, url: str = A) -> list[str]:
        """Images of one request: bytes as text, or the first letters of the hash."""
        items = json.loads(self.services[url].requests[number].content)["items"]
        images = [Image(item["image"]) for item in items]
        return [f"#{i.sha256[:4]}" if i.sha256 else i.decode().decode() for i in images]


def batch(*images: bytes | Image) -> TokenRewardRequest:
    return TokenRewardRequest(
        items=tuple(
            TokenRewardItem(
                id=str(number),
                image=image if isinstance(image, Image) else Image(image),
                texts=("A dog and a cat.",),
            )
            for number, image in enumerate(images)
        )
    )


def hash_of(data: bytes) -> str:
    return f"#{sha256_of(data)[:4]}"


# retries, failover, deadline


def test_a_request_names_itself_and_the_time_that_is_left():
    driver = Driver(api_key="key", answer_s=1.5)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "2"})
    driver.score(b"x")
    first, second = (request.headers for request in driver.service.requests)
    assert first["X-Request-ID"] == second["X-Request-ID"]
    assert (first["X-Request-Timeout"], second["X-Request-Timeout"]) == ("60.000", "56.375")
    assert first["Authorization"] == "Bearer key"
    assert first["User-Agent"].startswith("sightline/")
    timeout = driver.service.requests[1].extensions["timeout"]
    assert timeout == {"connect": 5.0, "read": 56.375, "write": 56.375, "pool": 56.375}


def test_waits_grow_and_come_on_top_of_retry_after():
    driver = Driver()
    driver.service.fail_next(503, ErrorCode.NOT_READY, times=2)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "7"})
    driver.score(b"x")
    assert driver.pauses == [0.125, 0.25, 7.5]


def test_every_retry_is_logged(caplog):
    driver = Driver(retries=1)
    driver.service.fail_next(429, ErrorCode.OVERLOADED)
    driver.score(b"x")
    [record] = caplog.records
    assert (record.name, record.levelname) == ("sightline.delivery", "WARNING")
    assert "code overloaded" in record.message
    assert record.message.endswith("attempt 2 of 2")


def test_after_the_last_retry_the_error_says_what_the_service_said():
    driver = Driver(retries=2)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, times=3)
    with pytest.raises(errors.OverloadedError) as caught:
        driver.score(b"x")
    error = caught.value
    assert (error.status, error.code, error.attempts, error.url) == (429, "overloaded", 3, A)
    assert error.request_id == driver.service.requests[0].headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, ErrorCode.PROFILE_NOT_FOUND, errors.InvalidRequestError),
        (422, ErrorCode.INVALID_FIELD, errors.InvalidRequestError),
        (401, ErrorCode.UNAUTHORIZED, errors.AuthenticationError),
        (500, ErrorCode.INTERNAL, errors.UnavailableError),
        (503, ErrorCode.MODEL_NOT_SERVED, errors.UnavailableError),
        (504, ErrorCode.DEADLINE_EXCEEDED, errors.DeadlineError),
        (404, None, errors.InvalidRequestError),
        (307, None, errors.InvalidRequestError),
    ],
)
def test_what_cannot_pass_is_asked_once(status, code, kind):
    driver = Driver(A, B)
    driver.service.fail_next(status, code)
    with pytest.raises(kind) as caught:
        driver.score(b"x")
    assert (caught.value.status, driver.asked, driver.pauses) == (status, [A], [])


def test_a_refusal_by_something_else_is_explained():
    driver = Driver()
    driver.service.fail_next(404)
    with pytest.raises(errors.InvalidRequestError, match="is this a Sightline service"):
        driver.score(b"x")
    driver.service.fail_next(308, headers={"Location": "https://a/"})
    with pytest.raises(errors.InvalidRequestError, match="https://a/, use that as base_url"):
        driver.score(b"x")


def test_a_broken_connection_is_tried_again_and_named_in_the_end():
    driver = Driver(retries=1)
    driver.service.fail_next(httpx.ReadError("reset by peer"))
    assert len(driver.score(b"x").items) == 1
    driver.service.fail_next(httpx.ConnectError("refused"), times=2)
    with pytest.raises(
        errors.UnreachableError, match=r"http://a \(from base_url\) cannot be reached: refused"
    ) as got:
        driver.score(b"x")
    assert isinstance(got.value.__cause__, httpx.ConnectError)


def test_a_wait_beyond_the_deadline_is_not_begun():
    driver = Driver(timeout_s=5.0)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "6"})
    with pytest.raises(errors.DeadlineError, match=r"timeout_s = 5 seconds; .*refused") as caught:
        driver.score(b"x")
    assert (driver.pauses, caught.value.code, caught.value.status) == ([], "overloaded", 429)
    assert isinstance(caught.value, TimeoutError)


def test_an_answer_that_does_not_come_in_time_is_a_deadline():
    driver = Driver(answer_s=60.0)
    driver.service.fail_next(httpx.ReadTimeout("timed out"))
    with pytest.raises(errors.DeadlineError):
        driver.score(b"x")
    assert driver.asked == [A]


def test_uploads_count_against_the_same_deadline():
    driver = Driver(timeout_s=10.0)
    driver.score(b"x")
    driver.service.images.clear()
    driver.answer_s = 5.0
    with pytest.raises(errors.DeadlineError):
        driver.score(b"x")
    assert [request.method for request in driver.service.requests] == ["POST", "POST", "PUT"]


def test_services_take_turns():
    driver = Driver(A, B)
    for image in (b"1", b"2", b"3", b"4"):
        driver.score(image)
    assert driver.asked == [A, B, A, B]


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), 503, 502])
def test_another_service_takes_over_at_once_and_the_failed_one_rests(failure):
    driver = Driver(A, B)
    driver.service.fail_next(failure)
    for _ in range(3):
        driver.score(b"x", b"y")
    assert driver.asked[:2] == [A, B]
    assert set(driver.asked[1:]) == {B}
    assert driver.pauses == []
    driver.now += BREAK_S
    for _ in range(2):
        driver.score(b"z")
    assert A in driver.asked[-3:]


def test_a_busy_service_rests_only_as_long_as_it_asks():
    driver = Driver(A, B)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "1"})
    driver.score(b"x")
    assert (driver.asked, driver.pauses) == ([A, B], [])
    driver.now += 1.2
    driver.score(b"y")
    assert driver.asked[-1] == A


def test_where_every_service_fails_there_is_a_wait():
    driver = Driver(A, B, retries=3)
    for service in driver.services.values():
        service.fail_next(httpx.ConnectError("refused"), times=2)
    with pytest.raises(errors.UnreachableError):
        driver.score(b"x")
    assert driver.asked == [A, B, A, B]
    assert driver.pauses == [0.25, 0.5]


# images


def test_an_image_is_sent_once():
    driver = Driver()
    driver.score(b"one", b"two")
    driver.score(b"two", b"three", b"one")
    assert driver.sent(0) == ["one", "two"]
    assert driver.sent(1) == [hash_of(b"two"), "three", hash_of(b"one")]
    assert len(driver.service.requests) == 2


def test_an_image_that_is_used_twice_in_a_batch_is_carried_once():
    driver = Driver()
    driver.score(b"one", b"one", b"two", b"one")
    assert driver.sent(0) == ["one", hash_of(b"one"), "two", hash_of(b"one")]


def test_a_missing_image_is_uploaded_and_only_its_items_are_asked_again():
    driver = Driver()
    direct = driver.score(b"one", b"two")
    driver.service.images.clear()
    answer = driver.score(b"new", b"one", b"broken", b"two")
    posts = [request.method for request in driver.service.requests]
    assert posts == ["POST", "POST", "PUT", "PUT", "POST"]
    assert driver.sent(1) == ["new", hash_of(b"one"), "broken", hash_of(b"two")]
    assert driver.sent(-1) == [hash_of(b"one"), hash_of(b"two")]
    assert [item.index for item in answer.items] == [0, 1, 2, 3]
    assert [item.id for item in answer.items] == ["0", "1", "2", "3"]
    assert answer.items[1].results == direct.items[0].results
    assert answer.items[3].results == direct.items[1].results
    assert answer.items[2].error is not None
    assert answer.items[2].error.param == "items[2].image"
    assert {sha256_of(data) for data in (b"one", b"two")} <= driver.service.images.keys()


def test_all_letters_of_a_question_name_the_endpoint_and_its_first_image():
    driver = Driver()
    driver.score(b"one", b"two")
    driver.service.images.clear()
    driver.score(Image("sha256:" + "0" * 64), b"one", b"two")
    routes = [
        (request.method, request.headers["X-Sightline-Endpoint"], request.headers[IMAGE])
        for request in driver.service.requests
    ]
    ours, theirs = sha256_of(b"one"), "0" * 64
    assert routes[0] == ("POST", "token_reward", ours)
    assert routes[1:] == [
        (method, "token_reward", theirs) for method in ("POST", "PUT", "PUT", "POST")
    ]


def test_a_question_without_an_image_names_none():
    driver = Driver()
    question = questions.perplexity("A dog.", None, None, False)
    driver.run(driver.exchange.ask_one(PERPLEXITY, question))
    [request] = driver.service.requests
    assert request.headers["X-Sightline-Endpoint"] == "perplexity"
    assert IMAGE not in request.headers


def test_uploads_do_not_use_up_the_retries():
    driver = Driver(retries=0)
    driver.score(b"one")
    driver.service.images.clear()
    assert driver.score(b"one").items[0].error is None


def test_the_callers_own_reference_is_left_alone():
    driver = Driver()
    [item] = driver.score(Image("sha256:" + "0" * 64)).items
    assert item.error is not None
    assert item.error.code == "image_not_found"
    assert len(driver.service.requests) == 1


def test_replicas_behind_one_url_that_share_no_store_get_the_bytes():
    driver = Driver()
    driver.score(b"one")
    driver.service.images.clear()
    upload = driver.service._store
    driver.service._store = lambda request, sha256: (
        (  # the replica that stores is not the one asked
            upload(request, sha256),
            driver.service.images.clear(),
        )[0]
    )
    assert driver.score(b"one").items[0].error is None
    assert driver.sent(-1) == ["one"]
    before = len(driver.service.requests)
    driver.score(b"one")
    assert driver.sent(-1) == ["one"]
    assert len(driver.service.requests) == before + 1


def test_a_service_without_a_store_gets_the_bytes():
    driver = Driver()
    driver.score(b"one")
    driver.service.images.clear()
    driver.service._store = lambda request, sha256: httpx.Response(405, request=request)
    assert driver.score(b"one").items[0].error is None
    assert [request.method for request in driver.service.requests] == [
        "POST",
        "POST",
        "PUT",
        "POST",
    ]
    assert driver.sent(-1) == ["one"]


def test_what_one_service_knows_another_does_not():
    driver = Driver(A, B)
    driver.score(b"one")
    driver.score(b"one")
    assert driver.sent(0, A) == driver.sent(0, B) == ["one"]


# batches


def test_a_batch_that_is_too_large_for_the_service_is_halved(monkeypatch):
    driver = Driver()
    plain = driver.service._scored

    def strict(request, kind, reply):
        if len(json.loads(request.content)["items"]) > 2:
            return httpx.Response(413, text="from a proxy", request=request)
        return plain(request, kind, reply)

    monkeypatch.setattr(driver.service, "_scored", strict)
    answer = driver.score(*(b"%d" % number for number in range(7)))
    assert [item.id for item in answer.items] == [str(number) for number in range(7)]
    assert [item.index for item in answer.items] == list(range(7))
    monkeypatch.setattr(driver.service, "_scored", lambda *_: httpx.Response(413, text="no"))
    with pytest.raises(errors.InvalidRequestError):
        driver.score(b"x", b"y")


def test_a_batch_beyond_the_body_limit_is_cut_and_joined_in_order(monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 100)
    driver = Driver()
    answer = driver.score(*(b"%02d" % number * 20 for number in range(5)))
    assert [item.id for item in answer.items] == ["0", "1", "2", "3", "4"]
    names = [request.headers["X-Request-ID"] for request in driver.service.requests]
    assert len(names) > 1
    assert [name.rsplit("-")[-1] for name in names] == [str(n) for n in range(len(names))]
    assert len({name.rsplit("-")[0] for name in names}) == 1
    assert answer.usage.images == 5


def answered(driver, change):
    """Makes the service's next answers pass through `change`, a function of the decoded JSON."""
    plain = driver.service._scored

    def changed(request, kind, reply):
        body = json.loads(plain(request, kind, reply).content)
        return httpx.Response(200, content=json.dumps(change(body)), request=request)

    driver.service._scored = changed


def test_busy_items_are_asked_again_with_the_others_kept():
    driver = Driver()
    failures = iter([True, True, False])

    def busy(body):
        if next(failures):
            body["items"][-1] = {
                "index": len(body["items"]) - 1,
                "id": body["items"][-1]["id"],
                "error": {"message": "full", "type": "overloaded_error", "code": "out_of_memory"},
            }
        return body

    answered(driver, busy)
    answer = driver.score(b"x", b"y")
    assert [item.error for item in answer.items] == [None, None]
    assert driver.sent(1) == driver.sent(2)
    assert driver.pauses == [0.125, 0.25]


def test_a_busy_item_keeps_its_error_where_no_time_or_retry_is_left():
    for config in ({"retries": 1}, {"timeout_s": 0.2, "retries": 9}):
        driver = Driver(**config)

        def busy(body):
            for item in body["items"]:
                item.pop("results")
                item["error"] = {"message": "full", "type": "busy", "code": "overloaded"}
            return body

        answered(driver, busy)
        [item] = driver.score(b"x").items
        assert item.error is not None
        assert item.error.code == "overloaded"
        assert driver.pauses == [0.125]


def test_a_single_item_raises_its_error():
    driver = Driver()
    with pytest.raises(errors.ItemError, match="the bytes are no image") as caught:
        driver.run(driver.exchange.ask_one(TOKEN_REWARD, batch(b"broken")))
    error = caught.value
    assert (error.status, error.code, error.param) == (200, "image_invalid", "items[0].image")
    assert (error.attempts, error.url) == (1, A)


# answers that cannot be trusted


def _drop(body):
    body["items"].pop()
    return body


def _swap(body):
    body["items"].reverse()
    return body


def _empty(body):
    del body["items"][1]["results"]
    return body


def _not_a_number(body):
    body["items"][0]["results"][0]["spans"][0]["score"] = float("nan")
    return body


def _infinite(body):
    body["items"][0]["results"][0]["spans"][0]["reward"] = float("inf")
    return body


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "1 answers came for 2 items"),
        (_swap, "says index 1"),
        (_empty, "item 1 has nothing"),
        (_not_a_number, r"items\[0\]\.results\[0\]\.spans\[0\]\.score.*finite"),
        (_infinite, r"spans\[0\]\.reward.*finite"),
        (lambda body: {"hello": "world"}, "no TokenRewardReply.*is this a Sightline service"),
    ],
)
def test_an_answer_that_cannot_be_trusted_raises(change, message):
    driver = Driver()
    answered(driver, change)
    with pytest.raises(errors.ReplyError, match=message) as caught:
        driver.score(b"x", b"y")
    assert (caught.value.status, caught.value.attempts, caught.value.url) == (200, 1, A)


def test_parts_scored_by_two_models_are_refused(monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 1)
    driver = Driver()
    revisions = iter("12")

    def other(body):
        body["model"]["revision"] = next(revisions)
        return body

    answered(driver, other)
    with pytest.raises(errors.ReplyError, match="one batch was scored with model"):
        driver.score(b"x", b"y")


# the service itself


def test_info_is_retried_and_readiness_is_asked_once_per_service():
    driver = Driver(A, B)
    driver.service.fail_next(503, ErrorCode.NOT_READY, times=1)
    assert driver.run(driver.exchange.info()).limits.items == 64
    driver.asked.clear()
    for service in driver.services.values():
        service.fail_next(httpx.ConnectError("refused"))
    assert driver.run(driver.exchange.ready()) is False
    assert driver.asked == [A, B]
    driver.service.fail_next(503, ErrorCode.NOT_READY)
    assert driver.run(driver.exchange.ready()) is True
