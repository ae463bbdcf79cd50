"""Models that raise, run out of memory, hang or die in a running service."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pictures import png
from victim import ILL

from sightline import errors
from sightline_proto import PerplexityItem, PerplexityRequest

GOOD = ["A dog.", "A cat on a mat.", "Two red buses."]


def batch(*texts: str) -> PerplexityRequest:
    return PerplexityRequest(items=tuple(PerplexityItem(texts=(text,)) for text in texts))


def log_probs(reply) -> list[float | None]:
    return [item.results[0].log_prob if item.results else None for item in reply.items]


def test_an_input_at_which_the_model_raises_fails_alone(ill):
    with ill.client(timeout_s=90) as client:
        expected = log_probs(client.send(batch(*GOOD)))
        with ThreadPoolExecutor(8) as pool:
            mixed = [batch(GOOD[0], f"{n} raises", *GOOD[1:]) for n in range(16)]
            clean = [batch(*GOOD) for _ in range(16)]
            replies = list(pool.map(client.send, mixed + clean))
    for reply in replies[:16]:
        assert log_probs(reply) == [expected[0], None, *expected[1:]]
        assert reply.items[1].error.code == "internal_error"
        assert "as the text says" not in reply.items[1].error.message
    assert all(log_probs(reply) == expected for reply in replies[16:])
    assert ill.status("/readyz") == 200


def test_a_batch_for_which_memory_does_not_suffice_is_answered_in_pieces(ill):
    texts = [f"{n} with little room" for n in range(24)]
    with ill.client(timeout_s=90, retries=0) as client:
        alone = [log_probs(client.send(batch(text)))[0] for text in texts]
        assert log_probs(client.send(batch(*texts))) == alone
        assert ill.metric("sightline_batch_retries", model="perplexity") >= 4
        [refused, answered] = client.send(batch("no room", GOOD[0])).items
    assert refused.error.code == "out_of_memory"
    assert answered.results
    assert ill.status("/readyz") == 200


def test_a_dead_worker_is_told_to_its_callers_at_once_and_then_to_the_cluster(start):
    victim = start("--restart-after-s", "2", models=ILL)
    with victim.client(timeout_s=20, retries=0) as client:
        image = png(1)
        expected = client.ground(image, "dog")
        with ThreadPoolExecutor(4) as pool:
            started = time.monotonic()
            waiting = [
                pool.submit(client.send, batch(f"sleeps 0.3 {n}", f"dies {n}")) for n in range(4)
            ]
            failures = [each.exception() for each in waiting]
        assert time.monotonic() - started < 10
        assert {type(failure) for failure in failures} == {errors.UnavailableError}
        assert {failure.status for failure in failures} == {503}
        assert client.ground(image, "dog") == expected, "the other models go on"
    victim.await_status("/readyz", 503)
    victim.await_status("/livez", 503)


def test_a_wedged_model_holds_nobody_beyond_the_deadline(start):
    victim = start("--request-timeout-s", "1", "--restart-after-s", "1", models=ILL)
    with victim.client(timeout_s=90, retries=0) as client:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            client.send(batch("sleeps 90.0"))
        assert time.monotonic() - started < 5
    victim.await_status("/readyz", 503)
    victim.await_status("/livez", 503)


def test_work_whose_deadline_has_passed_is_not_computed(ill):
    with httpx.Client(base_url=ill.url, timeout=30) as http, ThreadPoolExecutor(21) as pool:
        busy = pool.submit(http.post, "/perplexity", json={"items": [{"texts": ["sleeps 8.0"]}]})
        time.sleep(0.5)
        before = ill.metric("sightline_batch_size_sum", model="perplexity", lane="texts")
        late = [
            pool.submit(
                http.post,
                "/perplexity",
                json={"items": [{"texts": [f"late {n}"]}]},
                headers={"X-Request-Timeout": "0.7"},
            )
            for n in range(20)
        ]
        assert {each.result().status_code for each in late} == {504}
        assert not busy.done()
        assert busy.result().status_code == 200
        assert http.post("/perplexity", json={"items": [{"texts": ["after"]}]}).is_success
    after = ill.metric("sightline_batch_size_sum", model="perplexity", lane="texts")
    assert after - before == 2, "the one that slept, and the one after; none of the twenty"


def test_a_noisy_key_starves_no_other(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("noisy-key\nquiet-key\n")
    room = ["--max-batch-items", "1", "--max-concurrent-requests", "64"]
    victim = start("--api-key-file", str(keys), *room, models=ILL)
    with (
        victim.client(api_key="noisy-key", timeout_s=60, retries=0, max_concurrency=100) as noisy,
        victim.client(api_key="quiet-key", timeout_s=60, retries=0) as quiet,
        ThreadPoolExecutor(100) as pool,
    ):
        crowd = [pool.submit(noisy.send, batch(f"sleeps 0.05 {n}")) for n in range(100)]
        time.sleep(0.5)
        before = sum(each.done() and not each.exception() for each in crowd)
        for n in range(5):
            assert log_probs(quiet.send(batch(f"{GOOD[0]} {n}")))
        meanwhile = sum(each.done() and not each.exception() for each in crowd) - before
        refused = [each.exception() for each in crowd if each.exception()]
    assert all(error.code == "overloaded" for error in refused)
    assert refused, "one key may not hold all places"
    assert meanwhile <= 30, "five questions waited for a few turns each, and not for the crowd"


def test_every_fault_spoken_at_once_still_gives_every_caller_an_answer_or_an_error(ill):
    words = ["A dog.", "{} raises", "{} no room", "{} with little room", "sleeps 0.02 {}"]
    with ill.client(timeout_s=90, retries=1) as client, ThreadPoolExecutor(16) as pool:
        requests = [batch(*(word.format(n) for word in words)) for n in range(60)]
        first = list(pool.map(client.send, requests))
        second = list(pool.map(client.send, requests))
    assert [log_probs(reply) for reply in first] == [log_probs(reply) for reply in second]
    for reply in first:
        codes = [item.error.code if item.error else None for item in reply.items]
        assert codes == [None, "internal_error", "out_of_memory", None, None]
