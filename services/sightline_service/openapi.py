"""The service's OpenAPI document; `python -m sightline_service.openapi` writes proto/openapi.json.

Knows the routes and the contract's messages; serves nothing itself.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sightline_proto import ENDPOINTS, ERROR_KINDS, ErrorBody, ErrorCode
from sightline_proto.endpoints import Endpoint as AnEndpoint
from sightline_proto.endpoints import Request
from sightline_service.body import FORM, JSON, PROTOBUF
from sightline_service.forms import REPEATED

Schema = dict[str, Any]
Endpoint = AnEndpoint[Any, Any]

_REFERENCE = "#/components/schemas/{model}"
_DESCRIPTION = """Scores texts against images, finely, for the alignment of vision-language models.

A request is a batch of items, each one image with its texts; a bad item gets its own `error` and
the others their scores. Each scoring path is also served under `/v1`. Errors are JSON, in one
envelope, whatever the format of the request.
"""
_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGM4sXotAATsAjCrU7aPAAAAAElFTkSuQmCC"
)
_EXAMPLES: dict[str, Schema] = {
    "token_reward": {
        "items": [
            {
                "id": "a",
                "image": _IMAGE,
                "texts": ["A dog on a bench."],
                "token_offsets": [[[0, 1], [1, 5], [5, 8], [8, 10], [10, 16], [16, 17]]],
            }
        ]
    },
    "sentence_reward": {
        "items": [
            {
                "image": _IMAGE,
                "texts": ["A dog. It sleeps.", "A cat."],
                "language_scores": [-0.7, -1.2],
            }
        ],
        "weight": 0.9,
    },
    "ground": {"items": [{"image": _IMAGE, "phrases": ["dog", "bench"]}], "box_threshold": 0.35},
    "perplexity": {
        "items": [{"image": _IMAGE, "prompt": "Describe the image.", "texts": ["A dog."]}],
        "return_tokens": True,
    },
}
_REFUSALS = (
    ErrorCode.MALFORMED_BODY,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.PROFILE_NOT_FOUND,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.INVALID_FIELD,
    ErrorCode.OVERLOADED,
    ErrorCode.INTERNAL,
    ErrorCode.MODEL_NOT_SERVED,
    ErrorCode.NOT_READY,
    ErrorCode.DRAINING,
    ErrorCode.DEADLINE_EXCEEDED,
)
_UPLOAD_REFUSALS = (
    ErrorCode.UNAUTHORIZED,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.HASH_MISMATCH,
    ErrorCode.INVALID_FIELD,
    ErrorCode.OVERLOADED,
    ErrorCode.DRAINING,
    ErrorCode.DEADLINE_EXCEEDED,
)


def document(app: FastAPI) -> Schema:
    """Returns the OpenAPI 3.1 document of `app`: all three body formats and every error."""
    base = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        separate_input_output_schemas=False,
    )
    schemas = base.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= _message_schemas()
    base["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    base["security"] = [{}, {"bearer": []}, {"key": []}]
    for endpoint in ENDPOINTS:
        for path in (endpoint.path, f"/v1{endpoint.path}"):
            _complete_scoring(base["paths"][path]["post"], endpoint)
    _complete_uploads(base["paths"]["/v1/images/{sha256}"])
    return base


def _message_schemas() -> dict[str, Schema]:
    messages: list[type[BaseModel]] = [ErrorBody]
    for endpoint in ENDPOINTS:
        messages += [endpoint.request, endpoint.reply]
    _, schema = models_json_schema(
        [(message, "validation") for message in messages], ref_template=_REFERENCE
    )
    definitions: dict[str, Schema] = schema["$defs"]
    return definitions


def _complete_scoring(operation: Schema, endpoint: Endpoint) -> None:
    request, reply = endpoint.request.__name__, endpoint.reply.__name__
    operation["requestBody"] = {
        "required": True,
        "content": {
            JSON: {"schema": _ref(request), "example": _EXAMPLES[endpoint.name]},
            FORM: {"schema": _form(endpoint.request)},
            PROTOBUF: {"schema": _protobuf(request)},
        },
    }
    operation["responses"] = {
        "200": {
            "description": "One reply per item, in order; protobuf if it is accepted or was sent.",
            "content": {
                JSON: {"schema": _ref(reply)},
                PROTOBUF: {"schema": _protobuf(reply)},
            },
        },
        **_errors(_REFUSALS),
    }
    operation["parameters"] = [
        _header("X-Request-ID", "Echoed in the reply and written to the logs.", type="string"),
        _header(
            "X-Request-Timeout",
            "Seconds; shortens the server's own timeout.",
            type="number",
            exclusiveMinimum=0,
        ),
    ]


def _complete_uploads(path: Mapping[str, Schema]) -> None:
    path["put"]["requestBody"] = {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
    path["put"]["responses"] = {
        "201": {"description": "Stored: the image can be referred to as sha256:<hex>."},
        **_errors(_UPLOAD_REFUSALS),
    }
    path["head"]["responses"] = {
        "200": {"description": "The image is stored."},
        "401": {"description": ErrorCode.UNAUTHORIZED.value},
        "404": {"description": "The image has to be put."},
        "422": {"description": ErrorCode.INVALID_FIELD.value},
    }
    for operation in path.values():
        [sha256] = operation["parameters"]
        sha256["schema"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def _errors(codes: tuple[ErrorCode, ...]) -> dict[str, Schema]:
    by_status: dict[int, list[ErrorCode]] = {}
    for code in codes:
        by_status.setdefault(ERROR_KINDS[code].status, []).append(code)
    return {str(status): _error(status, by_status[status]) for status in sorted(by_status)}


def _error(status: int, codes: list[ErrorCode]) -> Schema:
    answer: Schema = {
        "description": ", ".join(code.value for code in codes),
        "content": {JSON: {"schema": _ref(ErrorBody.__name__)}},
    }
    if status in (429, 503):
        answer["headers"] = {
            "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
        }
    return answer


def _form(request: type[Request]) -> Schema:
    """One item as a form: the item's fields beside the request's, `text` instead of `texts`."""
    item, _ = get_args(request.model_fields["items"].annotation)
    singular = {plural: name for name, plural in REPEATED.items()}
    properties: dict[str, Schema] = {}
    for name in (*item.model_fields, *request.model_fields):
        if name == "items":
            continue
        if name == "image":
            properties["image"] = {"type": "string", "format": "binary"}
        elif name in singular:
            properties[singular[name]] = {"type": "array", "items": {"type": "string"}}
        else:
            properties[name] = {"type": "string", "description": "Text, or a value as JSON."}
    return {"type": "object", "description": "One item.", "properties": properties}


def _protobuf(message: str) -> Schema:
    described = f"sightline.v1.{message} of proto/sightline/v1/reward.proto"
    return {"type": "string", "format": "binary", "description": described}


def _ref(message: str) -> Schema:
    return {"$ref": _REFERENCE.format(model=message)}


def _header(name: str, description: str, **schema: object) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def render() -> str:
    """Returns the text of proto/openapi.json."""
    from sightline_service.app import create_app
    from sightline_service.served import Models
    from sightline_service.settings import Settings

    return (
        json.dumps(create_app(Settings(), Models()).openapi(), indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "proto/openapi.json")
    target.write_text(render(), "utf-8")
