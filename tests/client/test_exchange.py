"""The flows, driven by hand: a clock that moves only in pauses and slow answers, no socket."""

import json

import httpx
import pytest

from sightline import errors
from sightline.replicas import BREAK_S
from sightline_proto import TOKEN_REWARD, ErrorCode

A, B = "http://a", "http://b"


# retries, failover, deadline


def test_a_request_names_itself_and_the_time_that_is_left(drive):
    driver = drive(api_key="key", answer_s=1.5)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "2"})
    driver.score(b"x")
    first, second = (request.headers for request in driver.service.requests)
    assert first["X-Request-ID"] == second["X-Request-ID"]
    assert (first["X-Request-Timeout"], second["X-Request-Timeout"]) == ("60.000", "56.375")
    assert first["Authorization"] == "Bearer key"
    assert first["User-Agent"].startswith("sightline/")
    timeout = driver.service.requests[1].extensions["timeout"]
    assert timeout == {"connect": 5.0, "read": 56.375, "write": 56.375, "pool": 56.375}


def test_waits_grow_and_come_on_top_of_retry_after(drive):
    driver = drive()
    driver.service.fail_next(503, ErrorCode.NOT_READY, times=2)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "7"})
    driver.score(b"x")
    assert driver.pauses == [0.125, 0.25, 7.5]


def test_every_retry_is_logged(drive, caplog):
    driver = drive(retries=1)
    driver.service.fail_next(429, ErrorCode.OVERLOADED)
    driver.score(b"x")
    [record] = caplog.records
    assert (record.name, record.levelname) == ("sightline.delivery", "WARNING")
    assert "code overloaded" in record.message
    assert record.message.endswith("attempt 2 of 2")


def test_after_the_last_retry_the_error_says_what_the_service_said(drive):
    driver = drive(retries=2)
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
def test_what_cannot_pass_is_asked_once(drive, status, code, kind):
    driver = drive(A, B)
    driver.service.fail_next(status, code)
    with pytest.raises(kind) as caught:
        driver.score(b"x")
    assert (caught.value.status, driver.asked, driver.pauses) == (status, [A], [])


def test_a_refusal_by_something_else_is_explained(drive):
    driver = drive()
    driver.service.fail_next(404)
    with pytest.raises(errors.InvalidRequestError, match="is this a Sightline service"):
        driver.score(b"x")
    driver.service.fail_next(308, headers={"Location": "https://a/"})
    with pytest.raises(errors.InvalidRequestError, match="https://a/, use that as base_url"):
        driver.score(b"x")


def test_a_broken_connection_is_tried_again_and_named_in_the_end(drive):
    driver = drive(retries=1)
    driver.service.fail_next(httpx.ReadError("reset by peer"))
    assert len(driver.score(b"x").items) == 1
    driver.service.fail_next(httpx.ConnectError("refused"), times=2)
    with pytest.raises(
        errors.UnreachableError, match=r"http://a \(from base_url\) cannot be reached: refused"
    ) as got:
        driver.score(b"x")
    assert isinstance(got.value.__cause__, httpx.ConnectError)


def test_a_wait_beyond_the_deadline_is_not_begun(drive):
    driver = drive(timeout_s=5.0)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "6"})
    with pytest.raises(errors.DeadlineError, match=r"timeout_s = 5 seconds; .*refused") as caught:
        driver.score(b"x")
    assert (driver.pauses, caught.value.code, caught.value.status) == ([], "overloaded", 429)
    assert isinstance(caught.value, TimeoutError)


def test_an_answer_that_does_not_come_in_time_is_a_deadline(drive):
    driver = drive(answer_s=60.0)
    driver.service.fail_next(httpx.ReadTimeout("timed out"))
    with pytest.raises(errors.DeadlineError):
        driver.score(b"x")
    assert driver.asked == [A]


def test_uploads_count_against_the_same_deadline(drive):
    driver = drive(timeout_s=10.0)
    driver.score(b"x")
    driver.service.images.clear()
    driver.answer_s = 5.0
    with pytest.raises(errors.DeadlineError):
        driver.score(b"x")
    assert [request.method for request in driver.service.requests] == ["POST", "POST", "PUT"]


def test_services_take_turns(drive):
    driver = drive(A, B)
    for image in (b"1", b"2", b"3", b"4"):
        driver.score(image)
    assert driver.asked == [A, B, A, B]


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), 503, 502])
def test_another_service_takes_over_at_once_and_the_failed_one_rests(drive, failure):
    driver = drive(A, B)
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


def test_a_busy_service_rests_only_as_long_as_it_asks(drive):
    driver = drive(A, B)
    driver.service.fail_next(429, ErrorCode.OVERLOADED, headers={"Retry-After": "1"})
    driver.score(b"x")
    assert (driver.asked, driver.pauses) == ([A, B], [])
    driver.now += 1.2
    driver.score(b"y")
    assert driver.asked[-1] == A


def test_where_every_service_fails_there_is_a_wait(drive):
    driver = drive(A, B, retries=3)
    for service in driver.services.values():
        service.fail_next(httpx.ConnectError("refused"), times=2)
    with pytest.raises(errors.UnreachableError):
        driver.score(b"x")
    assert driver.asked == [A, B, A, B]
    assert driver.pauses == [0.25, 0.5]


# batches


def test_a_batch_that_is_too_large_for_the_service_is_halved(drive, monkeypatch):
    driver = drive()
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


def test_a_batch_beyond_the_body_limit_is_cut_and_joined_in_order(drive, monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 100)
    driver = drive()
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


def test_busy_items_are_asked_again_with_the_others_kept(drive):
    driver = drive()
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


def test_a_busy_item_keeps_its_error_where_no_time_or_retry_is_left(drive):
    for config in ({"retries": 1}, {"timeout_s": 0.2, "retries": 9}):
        driver = drive(**config)

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


def test_a_single_item_raises_its_error(drive, batch):
    driver = drive()
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
def test_an_answer_that_cannot_be_trusted_raises(drive, change, message):
    driver = drive()
    answered(driver, change)
    with pytest.raises(errors.ReplyError, match=message) as caught:
        driver.score(b"x", b"y")
    assert (caught.value.status, caught.value.attempts, caught.value.url) == (200, 1, A)


def test_parts_scored_by_two_models_are_refused(drive, monkeypatch):
    monkeypatch.setattr("sightline.parcels.BODY_BYTES", 1)
    driver = drive()
    revisions = iter("12")

    def other(body):
        body["model"]["revision"] = next(revisions)
        return body

    answered(driver, other)
    with pytest.raises(errors.ReplyError, match="one batch was scored with model"):
        driver.score(b"x", b"y")


# the service itself


def test_info_is_retried_and_readiness_is_asked_once_per_service(drive):
    driver = drive(A, B)
    driver.service.fail_next(503, ErrorCode.NOT_READY, times=1)
    assert driver.run(driver.exchange.info()).limits.items == 64
    driver.asked.clear()
    for service in driver.services.values():
        service.fail_next(httpx.ConnectError("refused"))
    assert driver.run(driver.exchange.ready()) is False
    assert driver.asked == [A, B]
    driver.service.fail_next(503, ErrorCode.NOT_READY)
    assert driver.run(driver.exchange.ready()) is True
