"""Bad input, the embedded models: the stated error, unhurt neighbours, a ready service."""

import base64
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable

import PIL.Image
import pytest

from sightline_world.scenes import scene

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def good(png: Callable[[PIL.Image.Image], bytes]) -> bytes:
    return png(scene("validation", 0).image)


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares an enormous picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def noise(n_bytes: int) -> str:
    return text_of(b"\x89PNG\r\n\x1a\n" + b"\x00" * n_bytes)


def rounded(value: object) -> object:
    """The same with numbers of four significant digits: a batch may round its sums otherwise."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def bad_images(good: bytes) -> dict[str, tuple[str, str]]:
    return {
        "corrupt": (text_of(good[:200] + b"\xff" * 200 + good[400:]), "image_invalid"),
        "truncated": (text_of(good[: len(good) // 2]), "image_invalid"),
        "empty": ("", "image_invalid"),
        "no image": (text_of(b"hello"), "image_invalid"),
        "no base64": ("@@@@", "image_invalid"),
        "too many bytes": (noise(200_000), "image_too_large"),
        "too many pixels": (text_of(bomb(60_000, 60_000)), "image_too_large"),
        "a URL": ("https://example.com/dog.png", "image_url_not_allowed"),
        "unknown hash": ("sha256:" + "0" * 64, "image_not_found"),
    }


@pytest.mark.parametrize("path", ["/token_reward", "/sentence_reward", "/ground", "/perplexity"])
async def test_a_bad_image_fails_its_own_item_and_no_other(serve, good, path):
    texts = {"text": "a dog"} if path == "/ground" else {"texts": ["A dog and a cat."]}
    bad = bad_images(good)
    items = [{"id": name, "image": image, **texts} for name, (image, _) in bad.items()]
    fine = {"id": "fine", "image": text_of(good), **texts}
    mixed = [each for item in items for each in (fine, item)]
    async with serve(max_image_bytes=150_000) as http:
        alone = (await http.post(path, json={"items": [fine]})).json()["items"][0]
        reply = await http.post(path, json={"items": mixed})
        assert reply.status_code == 200, reply.text
        replies = reply.json()["items"]
        ready = await http.get("/readyz")
    assert ready.status_code == 200
    for neighbour in replies[::2]:
        assert rounded(neighbour | {"index": 0}) == rounded(alone)
    for failed in replies[1::2]:
        assert failed["error"]["code"] == bad[failed["id"]][1], failed
        assert failed["error"]["message"]
        assert "result" not in failed
        assert "results" not in failed


REFUSED = {
    "not JSON": (b"{", 400, "malformed_body", None),
    "not UTF-8": (b'{"items": "\xff"}', 400, "malformed_body", None),
    "deep": (b"[" * 100_000, 400, "malformed_body", None),
    "a list": (b"[]", 422, "invalid_field", None),
    "no items": (b"{}", 422, "invalid_field", "items"),
    "empty items": (b'{"items": []}', 422, "invalid_field", "items"),
    "unknown field": (
        b'{"items": [{"image": "", "texts": ["a"]}], "colour": 1}',
        422,
        "invalid_field",
        "colour",
    ),
    "wrong type": (
        b'{"items": [{"image": "", "texts": "a dog"}]}',
        422,
        "invalid_field",
        "items[0].texts",
    ),
    "empty text": (
        b'{"items": [{"image": "", "texts": [""]}]}',
        422,
        "invalid_field",
        "items[0].texts[0]",
    ),
    "lone surrogate": (
        b'{"items": [{"image": "", "texts": ["\\ud800"]}]}',
        400,
        "malformed_body",
        None,
    ),
    "NaN": (
        b'{"items": [{"image": "", "texts": ["a"], "language_scores": [NaN]}]}',
        422,
        "invalid_field",
        "items[0].language_scores[0]",
    ),
    "10 MB text": (
        json.dumps({"items": [{"image": "", "texts": ["dog " * 2_500_000]}]}).encode(),
        422,
        "invalid_field",
        "items[0].texts[0]",
    ),
    "beyond the body limit": (b'"' + b"a" * 20_000_000 + b'"', 413, "payload_too_large", None),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_malformed_request_is_refused_whole_with_field_and_mend(serve, name):
    content, status, code, param = REFUSED[name]
    headers = {"content-type": "application/json"}
    async with serve(max_body_bytes=16_000_000) as http:
        reply = await http.post("/sentence_reward", content=content, headers=headers)
        ready = await http.get("/readyz")
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code
    assert param is None or error["param"] == param
    assert len(error["message"]) < 2_000
    assert ready.status_code == 200


async def test_an_unknown_profile_is_named_with_those_that_exist(serve, good):
    item = {"image": text_of(good), "texts": ["a dog"]}
    async with serve() as http:
        reply = await http.post("/token_reward", json={"items": [item], "profile": "other"})
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["code"] == "profile_not_found"
    assert "other" in error["message"]
    assert "default" in error["message"]


async def test_an_uploaded_image_is_scored_by_its_hash(serve, good):
    name = hashlib.sha256(good).hexdigest()
    item = {"image": f"sha256:{name}", "texts": ["a dog"]}
    async with serve() as http:
        before = (await http.post("/sentence_reward", json={"items": [item]})).json()["items"][0]
        wrong = await http.put(f"/v1/images/{'0' * 64}", content=good)
        put = await http.put(f"/v1/images/{name}", content=good)
        after = (await http.post("/sentence_reward", json={"items": [item]})).json()["items"][0]
        inline = {"image": text_of(good), "texts": ["a dog"]}
        whole = (await http.post("/sentence_reward", json={"items": [inline]})).json()["items"][0]
    assert before["error"]["code"] == "image_not_found"
    assert wrong.status_code == 422
    assert put.status_code in (200, 201, 204)
    assert after["results"] == whole["results"]


async def test_every_way_to_store_pixels_gives_about_the_same_score(serve, good):
    picture = PIL.Image.open(io.BytesIO(good)).convert("RGB")

    def stored(image: PIL.Image.Image, kind: str, **options: object) -> str:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return text_of(file.getvalue())

    turned = picture.transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 270 degrees to show
    opaque = picture.copy()
    opaque.putalpha(255)
    images = {
        "png": stored(picture, "PNG"),
        "alpha": stored(opaque, "PNG"),
        "bmp": stored(picture, "BMP"),
        "webp": stored(picture, "WEBP", lossless=True),
        "turned": stored(turned, "PNG", exif=exif),
        "cmyk": stored(picture.convert("CMYK"), "TIFF"),
        "jpeg": stored(picture, "JPEG", quality=98, subsampling=0),
        "gif": stored(picture.quantize(256), "GIF"),
    }
    items = [{"id": n, "image": i, "texts": ["a dog", "a pizza"]} for n, i in images.items()]
    async with serve() as http:
        replies = (await http.post("/sentence_reward", json={"items": items})).json()["items"]
    scores = {
        each["id"]: [100 * result["cosine"] for result in each["results"]] for each in replies
    }
    for name, tolerance in (("alpha", 1e-3), ("bmp", 1e-3), ("webp", 1e-3), ("turned", 1e-3)):
        assert scores[name] == pytest.approx(scores["png"], abs=tolerance), name
    for name in ("cmyk", "jpeg", "gif"):
        assert scores[name] == pytest.approx(scores["png"], abs=6), name
