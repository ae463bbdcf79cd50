"""How each server wants to be asked about one image and its texts. Knows HTTP bytes; runs nothing.

Peers with embeddings only are asked twice, for the image and for the texts; the cosine that their
caller would still compute is not charged to them.
"""

import json
from collections.abc import Callable

from sightline_bench.load import Unit
from sightline_proto import (
    CONTENT_TYPE_PROTOBUF,
    Image,
    PerplexityRequest,
    SentenceRewardRequest,
    TokenRewardRequest,
    to_protobuf,
)

Dialect = Callable[[Unit], list[bytes]]
_JSON = "application/json"
_HERE = "IMAGE-BASE64-HERE"
_BOUNDARY = b"sightline-benchmark-boundary"


def _post(path: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _json(path: str, content: object, unit: Unit | None = None) -> bytes:
    """Puts the image's base64, which needs no escapes, where the encoder saw a mark."""
    text = json.dumps(content)
    if unit is not None:
        text = text.replace(_HERE, unit.image_base64, 1)
    return _post(path, _JSON, text.encode())


def _items(path: str, unit: Unit, **more: object) -> list[bytes]:
    return [_json(path, {"items": [{"image": _HERE, "texts": unit.texts, **more}]}, unit)]


def sentence_json(unit: Unit) -> list[bytes]:
    """Sightline's own JSON."""
    return _items("/sentence_reward", unit)


def token_json(unit: Unit) -> list[bytes]:
    """The same captions, word by word."""
    return _items("/token_reward", unit)


def perplexity_json(unit: Unit) -> list[bytes]:
    """The same captions as answers to a prompt."""
    return _items("/perplexity", unit, prompt="Describe the image.")


def sentence_protobuf(unit: Unit) -> list[bytes]:
    """Raw image bytes in a protobuf message."""
    item = {"image": Image(unit.image), "texts": unit.texts}
    message = SentenceRewardRequest.model_validate({"items": [item]})
    return [_post("/sentence_reward", CONTENT_TYPE_PROTOBUF, to_protobuf(message))]


def token_protobuf(unit: Unit) -> list[bytes]:
    """The same for /token_reward."""
    item = {"image": Image(unit.image), "texts": unit.texts}
    message = TokenRewardRequest.model_validate({"items": [item]})
    return [_post("/token_reward", CONTENT_TYPE_PROTOBUF, to_protobuf(message))]


def perplexity_protobuf(unit: Unit) -> list[bytes]:
    """The same for /perplexity."""
    item = {"image": Image(unit.image), "texts": unit.texts, "prompt": "Describe the image."}
    message = PerplexityRequest.model_validate({"items": [item]})
    return [_post("/perplexity", CONTENT_TYPE_PROTOBUF, to_protobuf(message))]


def sentence_multipart(unit: Unit) -> list[bytes]:
    """A form with the image as a file, as `curl -F` sends it."""
    head = b'--%s\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    parts = [head % (_BOUNDARY, b"image", b'; filename="x.jpg"', unit.image)]
    parts += [head % (_BOUNDARY, b"text", b"", text.encode()) for text in unit.texts]
    body = b"".join(parts) + b"--%s--\r\n" % _BOUNDARY
    content_type = f"multipart/form-data; boundary={_BOUNDARY.decode()}"
    return [_post("/sentence_reward", content_type, body)]


def infinity(unit: Unit) -> list[bytes]:
    """Infinity's two calls, with its compact reply format."""
    image = {
        "model": "clip",
        "input": [f"data:image/jpeg;base64,{_HERE}"],
        "modality": "image",
        "encoding_format": "base64",
    }
    texts = {
        "model": "clip",
        "input": unit.texts,
        "modality": "text",
        "encoding_format": "base64",
    }
    return [_json("/embeddings", image, unit), _json("/embeddings", texts)]


def predict(unit: Unit) -> list[bytes]:
    """What the small peers written for this benchmark take."""
    return [_json("/predict", {"image": _HERE, "texts": unit.texts}, unit)]


DIALECTS: dict[str, Dialect] = {
    "sentence-json": sentence_json,
    "sentence-protobuf": sentence_protobuf,
    "sentence-multipart": sentence_multipart,
    "token-json": token_json,
    "token-protobuf": token_protobuf,
    "perplexity-json": perplexity_json,
    "perplexity-protobuf": perplexity_protobuf,
    "infinity": infinity,
    "predict": predict,
}
