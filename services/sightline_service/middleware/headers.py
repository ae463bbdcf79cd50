"""One header of a request, as its bytes came. Knows ASGI's scopes; knows no header's meaning.

Starlette's `Headers` decodes every name at every look, and each request is looked at several times.
"""

from collections.abc import Iterable

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str | None:
    """Returns the first value of a header, whose `name` is given in lower case, or None."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None
