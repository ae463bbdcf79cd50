"""How images travel: once, by hash from then on, and again where a service has lost them."""

import httpx

from sightline import questions
from sightline_proto import PERPLEXITY, Image, sha256_of

A, B = "http://a", "http://b"
IMAGE = "X-Sightline-Image"


def hash_of(data: bytes) -> str:
    return f"#{sha256_of(data)[:4]}"


def test_an_image_is_sent_once(drive):
    driver = drive()
    driver.score(b"one", b"two")
    driver.score(b"two", b"three", b"one")
    assert driver.sent(0) == ["one", "two"]
    assert driver.sent(1) == [hash_of(b"two"), "three", hash_of(b"one")]
    assert len(driver.service.requests) == 2


def test_an_image_that_is_used_twice_in_a_batch_is_carried_once(drive):
    driver = drive()
    driver.score(b"one", b"one", b"two", b"one")
    assert driver.sent(0) == ["one", hash_of(b"one"), "two", hash_of(b"one")]


def test_a_missing_image_is_uploaded_and_only_its_items_are_asked_again(drive):
    driver = drive()
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


def test_all_letters_of_a_question_name_the_endpoint_and_its_first_image(drive):
    driver = drive()
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


def test_a_question_without_an_image_names_none(drive):
    driver = drive()
    question = questions.perplexity("A dog.", None, None, False)
    driver.run(driver.exchange.ask_one(PERPLEXITY, question))
    [request] = driver.service.requests
    assert request.headers["X-Sightline-Endpoint"] == "perplexity"
    assert IMAGE not in request.headers


def test_uploads_do_not_use_up_the_retries(drive):
    driver = drive(retries=0)
    driver.score(b"one")
    driver.service.images.clear()
    assert driver.score(b"one").items[0].error is None


def test_the_callers_own_reference_is_left_alone(drive):
    driver = drive()
    [item] = driver.score(Image("sha256:" + "0" * 64)).items
    assert item.error is not None
    assert item.error.code == "image_not_found"
    assert len(driver.service.requests) == 1


def test_replicas_behind_one_url_that_share_no_store_get_the_bytes(drive):
    driver = drive()
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


def test_a_service_without_a_store_gets_the_bytes(drive):
    driver = drive()
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


def test_what_one_service_knows_another_does_not(drive):
    driver = drive(A, B)
    driver.score(b"one")
    driver.score(b"one")
    assert driver.sent(0, A) == driver.sent(0, B) == ["one"]
