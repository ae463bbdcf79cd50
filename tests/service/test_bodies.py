import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline_proto import (
    GROUND,
    PERPLEXITY,
    SENTENCE_REWARD,
    TOKEN_REWARD,
    Image,
    sha256_of,
)
from sightline_proto.wire import from_protobuf, to_protobuf

pytestmark = pytest.mark.anyio

PROTOBUF = "application/x-protobuf"
CASES = [
    (TOKEN_REWARD, {"texts": ["A dog and two cats.", "A bus."]}, {}),
    (SENTENCE_REWARD, {"texts": ["A dog. A cat.", "A bus."]}, {"weight": 0.5}),
    (GROUND, {"phrases": ["dog", "cat"]}, {"box_threshold": 0.1, "max_boxes": 5}),
    (GROUND, {"text": "A dog beside a cat."}, {"box_threshold": 0.1}),
    (PERPLEXITY, {"texts": ["A dog. It sleeps."], "prompt": "Describe."}, {"return_tokens": True}),
]
IDS = [f"{endpoint.name}-{'-'.join(item)}" for endpoint, item, _ in CASES]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def answer_json(client, endpoint, item, options, data):
    body = {"items": [{**item, "image": base64_of(data)}], **options}
    response = await client.post(endpoint.path, json=body)
    assert response.status_code == 200, response.text
    return endpoint.reply.model_validate_json(response.content)


async def answer_protobuf(client, endpoint, item, options, data):
    request = endpoint.request(items=[{**item, "image": Image(data)}], **options)
    response = await client.post(
        f"/v1{endpoint.path}", content=to_protobuf(request), headers={"content-type": PROTOBUF}
    )
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == PROTOBUF
    return from_protobuf(endpoint.reply, response.content)


async def answer_form(client, endpoint, item, options, data):
    names = {"texts": "text", "phrases": "phrase"}
    form = {names.get(name, name): value for name, value in item.items()}
    form |= {name: json.dumps(value) for name, value in options.items()}
    response = await client.post(endpoint.path, data=form, files={"image": ("x.png", data)})
    assert response.status_code == 200, response.text
    return endpoint.reply.model_validate_json(response.content)


@pytest.mark.parametrize(("endpoint", "item", "options"), CASES, ids=IDS)
async def test_all_three_formats_give_equal_scores(serve, image, endpoint, item, options):
    async with serve() as client:
        by_json = await answer_json(client, endpoint, item, options, image())
        by_protobuf = await answer_protobuf(client, endpoint, item, options, image())
        by_form = await answer_form(client, endpoint, item, options, image())
    assert by_json == by_protobuf == by_form
    assert by_json.items[0].error is None


async def test_an_image_may_be_a_data_uri_or_a_hash(serve, image):
    data = image()
    uri = "data:image/png;base64," + base64_of(data)
    async with serve() as client:
        await client.put(f"/v1/images/{sha256_of(data)}", content=data)
        answers = []
        for value in (base64_of(data), uri, f"sha256:{sha256_of(data)}"):
            body = {"items": [{"image": value, "texts": ["A dog."]}]}
            answers.append((await client.post("/sentence_reward", json=body)).json())
    assert answers[0] == answers[1] == answers[2]


async def test_a_caller_chooses_the_format_of_the_reply(serve, image):
    request = SENTENCE_REWARD.request(items=[{"image": Image(image()), "texts": ["A dog."]}])
    async with serve() as client:
        sent_json = await client.post(
            "/sentence_reward",
            content=request.model_dump_json(),
            headers={"content-type": "application/json", "accept": PROTOBUF},
        )
        sent_protobuf = await client.post(
            "/sentence_reward",
            content=to_protobuf(request),
            headers={"content-type": PROTOBUF, "accept": "application/json"},
        )
    reply = from_protobuf(SENTENCE_REWARD.reply, sent_json.content)
    assert reply == SENTENCE_REWARD.reply.model_validate_json(sent_protobuf.content)


async def test_a_form_takes_an_image_by_hash_and_json_for_what_is_no_text(serve, image):
    data = image()
    form = {
        "id": "x1",
        "image": f"sha256:{sha256_of(data)}",
        "text": ["A dog.", "A cat."],
        "language_scores": "[-0.5, -1.5]",
        "combine": "minmax",
    }
    async with serve() as client:
        await client.put(f"/v1/images/{sha256_of(data)}", content=data)
        encoded = [
            (name, (None, value)) for name, values in form.items() for value in _each(values)
        ]
        response = await client.post("/sentence_reward", files=encoded)
    item = response.json()["items"][0]
    assert item["id"] == "x1"
    assert [result["calibrated"] is None for result in item["results"]] == [False, False]


async def test_a_form_takes_one_language_score_per_text(serve, image):
    form = {"text": ["A dog.", "A cat."], "language_score": ["-0.5", "-1.5"]}
    files = [("image", image())]
    async with serve() as client:
        one_by_one = await client.post("/sentence_reward", files=files, data=form)
        as_json = await client.post(
            "/sentence_reward",
            files=files,
            data={"text": form["text"], "language_scores": "[-0.5, -1.5]"},
        )
    assert one_by_one.status_code == 200, one_by_one.text
    assert one_by_one.json()["items"] == as_json.json()["items"]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"text": "a dog", "weight": ["0.1", "0.2"]}, "weight"),
        ({"text": "a dog", "texts": '["a cat"]'}, "texts"),
    ],
)
async def test_a_form_field_that_is_given_twice_is_refused(serve, image, form, param):
    async with serve() as client:
        reply = await client.post("/sentence_reward", files=[("image", image())], data=form)
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == param
    assert "given twice" in reply.json()["error"]["message"]


async def test_an_image_that_was_sent_inline_is_known_by_its_hash(serve, image):
    data = image()
    named = {"items": [{"image": f"sha256:{sha256_of(data)}", "phrases": ["dog"]}]}
    async with serve() as client:
        before = await client.head(f"/v1/images/{sha256_of(data)}")
        sent = await client.post("/ground", files=[("image", data)], data={"phrase": "dog"})
        again = await client.post("/ground", json=named)
    assert before.status_code == 404
    assert sent.json()["items"] == again.json()["items"]


def _each(values: str | list[str]) -> list[str]:
    return values if isinstance(values, list) else [values]


MALFORMED = [
    (b"{", "application/json"),
    (b"", "application/json"),
    (b"\xff\xfe", "application/json"),
    (b"[" * 100_000, "application/json"),
    (b'{"items": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", "application/json"),
    (b"\x08\x96\x01garbage", PROTOBUF),
    (b"no form", "multipart/form-data; boundary=x"),
    (b"--x\r\n\r\ncut", "multipart/form-data; boundary=x"),
    (b"--x--", "multipart/form-data"),
]


@pytest.mark.parametrize(("body", "content_type"), MALFORMED)
async def test_a_body_that_is_not_what_it_says_is_malformed(serve, body, content_type):
    async with serve() as client:
        headers = {"content-type": content_type}
        response = await client.post("/token_reward", content=body, headers=headers)
        ready = await client.get("/readyz")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "malformed_body"), error
    assert len(error["message"]) < 400
    assert ready.status_code == 200


@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", PROTOBUF, "multipart/form-data; boundary=x"]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_whatever_break_the_service(serve, body, content_type):
    import asyncio

    async def send():
        async with serve() as client:
            headers = {"content-type": content_type}
            return await client.post("/ground", content=body, headers=headers)

    response = asyncio.run(send())
    assert response.status_code in (400, 422), response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


INVALID = [
    ({"items": []}, "items"),
    ({}, "items"),
    ({"items": "x"}, "items"),
    ({"items": [{"texts": ["a"]}]}, "items[0].image"),
    ({"items": [{"image": 5, "texts": ["a"]}]}, "items[0].image"),
    ({"items": [{"image": "eA==", "texts": []}]}, "items[0].texts"),
    ({"items": [{"image": "eA==", "texts": [""]}]}, "items[0].texts[0]"),
    ({"items": [{"image": "eA==", "texts": ["a" * 10_000_000]}]}, "items[0].texts[0]"),
    ({"items": [{"image": "eA==", "texts": ["a"], "colour": 1}]}, "items[0].colour"),
    ({"items": [{"image": "eA==", "texts": ["a"], "token_offsets": [[[0, 9]]]}]}, "items[0]"),
    ({"items": [{"image": "eA==", "texts": ["a"]}] * 65}, "items"),
    ({"items": [{"image": "eA==", "texts": ["a"]}], "profile": "../x"}, "profile"),
]


@pytest.mark.parametrize(("body", "param"), INVALID, ids=lambda value: str(value)[:40])
async def test_a_wrong_field_is_named_with_its_value_and_the_mend(serve, body, param):
    async with serve() as client:
        response = await client.post("/token_reward", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (422, "invalid_field", param)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 400


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", '"0.5"'])
async def test_a_number_that_is_not_finite_is_refused(serve, number):
    item = f'{{"image":"eA==","texts":["a"],"language_scores":[{number}]}}'
    async with serve() as client:
        response = await client.post(
            "/sentence_reward",
            content=f'{{"items":[{item}]}}',
            headers={"content-type": "application/json"},
        )
    assert response.status_code in (400, 422)
    assert response.json()["error"]["code"] in ("invalid_field", "malformed_body")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_other_media_types_are_refused_with_those_understood(serve, headers):
    async with serve() as client:
        response = await client.post("/token_reward", content=b"{}", headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "unsupported_media_type")
    assert "send" in error["message"]


async def test_a_form_field_that_should_be_json_is_named(serve, image):
    async with serve() as client:
        response = await client.post(
            "/sentence_reward",
            data={"text": "A dog.", "weight": "heavy"},
            files={"image": ("x.png", image())},
        )
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "weight"


async def test_a_form_of_too_many_parts_is_refused(serve):
    parts = [("text", (None, "a"))] * 1025
    async with serve() as client:
        response = await client.post("/token_reward", files=parts)
    assert response.json()["error"]["code"] == "malformed_body"
