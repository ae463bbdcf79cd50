"""Why a message was refused: which field, which value, what to do. Knows pydantic, not HTTP."""

from pydantic import ValidationError

from sightline_proto.errors import ErrorCode, ErrorDetail, error_detail

_SHOWN_CHARS = 60


def validation_detail(error: ValidationError) -> ErrorDetail:
    """Describes the first fault of a message that pydantic refused.

    `param` is the field's path (`items[0].texts[2]`), or None where the body as a whole is at
    fault. The code is MALFORMED_BODY for text that is no JSON, else INVALID_FIELD.
    """
    fault = error.errors(include_url=False, include_context=False)[0]
    if fault["type"] == "json_invalid":
        return error_detail(
            ErrorCode.MALFORMED_BODY,
            f"the body is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}",
        )
    param = field_path(fault["loc"]) or None
    subject = f"{param}: " if param else ""
    match fault["type"]:
        case "missing":
            problem = "is required, add it"
        case "extra_forbidden":
            problem = "is not a field of this message, remove it or correct its name"
        case "string_unicode":
            problem = f"is no Unicode text (a lone surrogate), got {_shown(fault['input'])}"
        case "value_error":
            problem = fault["msg"].removeprefix("Value error, ")
        case _:
            problem = f"{fault['msg']}, got {_shown(fault['input'])}"
    return error_detail(ErrorCode.INVALID_FIELD, subject + problem, param=param)


def field_path(location: tuple[int | str, ...]) -> str:
    """Writes a pydantic location as a path: `("items", 0, "image")` -> `items[0].image`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step[:_SHOWN_CHARS]}"
    return path.removeprefix(".")


def _shown(value: object) -> str:
    """Shows a value in a few words, however large it is."""
    match value:
        case str() if len(value) > _SHOWN_CHARS:
            return f"{value[:_SHOWN_CHARS]!r}.. ({len(value)} characters)"
        case int() if value.bit_length() > 64:
            return "a whole number beyond 64 bits"
        case None | bool() | int() | float() | str():
            return repr(value)
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case _:
            return f"a value of type {type(value).__name__}"
