"""Connections that break, hang or lie, on either side of a running service."""

import contextlib
import itertools
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from bad_road import PASS, BadRoad, Step
from pictures import png

from sightline import RewardClient, errors
from sightline_proto import (
    Image,
    PerplexityItem,
    PerplexityRequest,
    SentenceRewardItem,
    SentenceRewardRequest,
)
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, to_protobuf

TEXTS = ("A dog. A cat.", "Two red buses on a street.")
OUTAGE = (503, "text/html", b"<html><h1>503 Service Temporarily Unavailable</h1></html>")
BUSY = (
    503,
    "application/json",
    b'{"error":{"message":"m","type":"overloaded_error","code":"not_ready"}}',
)


def question(n: int) -> SentenceRewardRequest:
    image = Image(png(n % 5))
    return SentenceRewardRequest(items=(SentenceRewardItem(image=image, texts=(*TEXTS, f"{n}.")),))


@pytest.fixture(scope="module")
def expected(ill):
    """What the service answers on a good road."""
    with ill.client(timeout_s=90) as client:
        return [client.send(question(n)).items for n in range(64)]


def agree(road: BadRoad) -> bool:
    """Whether each question was answered alike, however often it reached the service."""
    return all(len(set(replies)) == 1 for replies in road.answers.values())


def test_a_reply_cut_at_any_byte_is_asked_for_again_and_comes_whole(ill, expected):
    cuts = [*range(0, 400, 23), *range(400, 1200, 47)]

    def plan(number: int) -> Step:
        return Step(cut_at=cuts[number // 2]) if number % 2 == 0 else PASS

    with BadRoad(ill.url, plan) as road, RewardClient(road.url, timeout_s=90) as client:
        whole = len(client.send(question(0)).model_dump_json())  # uses the first cut and a pass
        for n in range(1, len(cuts)):
            assert client.send(question(n)).items == expected[n], f"cut at {cuts[n]}"
        assert road.exchanges >= len(cuts) + 1
        assert whole > 0
        assert agree(road)


@pytest.mark.parametrize("wire", ["protobuf", "json"])
def test_a_reply_that_lost_its_end_is_never_taken_for_an_answer(ill, expected, wire):
    ends = [0, 1, 2, 3, 5, 8, 13, 40, 80, 120, 160]

    def plan(number: int) -> Step:
        return Step(replaced_by=lambda body: body[: -ends[number] or None])

    with (
        BadRoad(ill.url, plan) as road,
        RewardClient(road.url, timeout_s=60, wire=wire, retries=0) as client,
    ):
        assert client.send(question(0)).items == expected[0]
        for _ in ends[1:]:
            with pytest.raises(errors.ReplyError):
                client.send(question(0))


def test_a_reply_of_noise_is_an_error_and_no_score(ill, expected):
    draw = random.Random(0)
    road_of_noise = BadRoad(
        ill.url, lambda _: Step(replaced_by=lambda body: draw.randbytes(len(body)))
    )
    with road_of_noise as road, RewardClient(road.url, timeout_s=60, retries=0) as client:
        for n in range(40):
            with pytest.raises(errors.ReplyError):
                client.send(question(n))


def test_a_storm_of_503_delays_every_answer_and_changes_none(ill, expected):
    draw = random.Random(1)
    storm = [
        Step(refused_with=draw.choice([OUTAGE, BUSY])) if draw.random() < 0.7 else PASS
        for _ in range(4000)
    ]
    with (
        BadRoad(ill.url, storm.__getitem__) as road,
        RewardClient(road.url, timeout_s=120, retries=60) as client,
        ThreadPoolExecutor(32) as pool,
    ):
        replies = list(pool.map(lambda n: client.send(question(n)).items, range(64)))
        assert replies == expected
        assert road.exchanges > 128
        assert agree(road)


def test_a_storm_that_does_not_end_ends_at_the_callers_deadline(ill):
    with (
        BadRoad(ill.url, lambda _: Step(refused_with=OUTAGE)) as road,
        RewardClient(road.url, timeout_s=3, retries=1000) as client,
    ):
        started = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            client.send(question(0))
        assert time.monotonic() - started < 4


CONTENT_TYPES = [
    "", "text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png",
    "application/octet-stream", "application/json; charset=utf-16", "multipart/form-data",
    "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 5000,
    "application/grpc", "JSON", ";;;", "a/b/c",
]  # fmt: skip


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("path", ["/sentence_reward", "/v1/ground"])
def test_a_wrong_content_type_is_the_callers_error(ill, content_type, path):
    for body in (b"", b"\x00\xff\xfe", b"[" * 20_000, b"items=1", to_protobuf(question(1))):
        answer = httpx.post(
            ill.url + path, content=body, headers={"content-type": content_type}, timeout=60
        )
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["error"]["code"] in (
            "unsupported_media_type",
            "malformed_body",
            "invalid_field",
        )


def test_protobuf_with_flipped_cut_and_doubled_bytes_is_answered_or_refused(ill):
    draw = random.Random(2)
    body = to_protobuf(
        PerplexityRequest(items=(PerplexityItem(texts=TEXTS), PerplexityItem(texts=("b",))))
    )
    headers = {"content-type": CONTENT_TYPE_PROTOBUF}
    statuses = set()
    with httpx.Client(base_url=ill.url, headers=headers, timeout=60) as http:
        for _ in range(400):
            spoilt = bytearray(body)
            for _ in range(draw.randint(1, 4)):
                spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
            start = draw.randrange(len(spoilt))
            doubled = spoilt + spoilt[start:] if draw.random() < 0.2 else spoilt
            cut = doubled[:start] if draw.random() < 0.3 else doubled
            statuses.add(http.post("/perplexity", content=bytes(cut)).status_code)
    assert {400, 200} <= statuses <= {200, 400, 422}


@pytest.fixture
def narrow(start):
    """A service with 8 places and 4 seconds for each request."""
    return start("--request-timeout-s", "4", "--max-concurrent-requests", "8")


def test_callers_who_vanish_half_way_hold_a_place_until_the_deadline_and_no_longer(narrow):
    """The other end says nothing more and never closes, as when its machine lost power."""
    lines = [socket.create_connection(("127.0.0.1", narrow.port), 30) for _ in range(8)]
    try:
        for line in lines:
            line.sendall(b"POST /ground HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        for line in lines:
            assert line.recv(100).startswith(b"HTTP/1.1 504")
        assert time.monotonic() - started < 8
        with narrow.client(timeout_s=60) as client:
            assert client.perplexity("A dog.")
    finally:
        for line in lines:
            line.close()


def test_callers_who_do_not_read_their_answers_hold_no_place(narrow):
    text = " ".join(["dog"] * 3000)
    body = PerplexityRequest(
        items=tuple(PerplexityItem(texts=(text,)) for _ in range(40)), return_tokens=True
    )
    content = body.model_dump_json().encode()
    head = (
        b"POST /perplexity HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"X-Request-Timeout: 60\r\nContent-Length: %d\r\n\r\n" % len(content)
    )
    lines = []
    try:
        for _ in range(8):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", narrow.port))
            line.sendall(head + content)
            lines.append(line)
        deadline = time.monotonic() + 20
        while narrow.metric("sightline_requests_in_flight"):
            assert time.monotonic() < deadline, "places are still held"
            time.sleep(0.1)
    finally:
        for line in lines:
            line.close()
    with narrow.client(timeout_s=60) as client:
        assert client.perplexity("A dog.")


def test_a_crowd_before_a_full_house_is_served_by_and_by_and_alike(narrow):
    questions = [question(n) for n in range(64)]
    with (
        narrow.client(timeout_s=90, retries=200, max_concurrency=48) as client,
        ThreadPoolExecutor(48) as pool,
    ):
        first = list(pool.map(lambda each: client.send(each).items, questions))
        again = [client.send(each).items for each in questions]
    assert first == again
    assert narrow.metric("sightline_rejected", reason="max_concurrent_requests") > 0


def test_heads_by_the_byte_are_cut_off_and_disturb_nobody(start):
    victim = start("--head-timeout-s", "1", "--max-connections", "64")
    lines = [socket.create_connection(("127.0.0.1", victim.port), 30) for _ in range(40)]
    try:
        started = time.monotonic()
        with victim.client(timeout_s=20) as client:
            head = itertools.chain(b"GET /", itertools.repeat(ord("a")))
            while time.monotonic() - started < 1.5:
                byte = bytes([next(head)])
                for line in lines:
                    with contextlib.suppress(OSError):
                        line.sendall(byte)
                assert client.perplexity("A dog.")
        for line in lines:
            line.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert line.recv(1000) == b""
    finally:
        for line in lines:
            line.close()
