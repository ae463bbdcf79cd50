"""Who may ask. Knows keys and paths; knows nothing else."""

import hmac
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_service.errors import UnauthorizedError


class AuthMiddleware:
    """Asks for one of `keys`, by `Authorization: Bearer` or `X-API-Key`; without keys, for none.

    Args:
        app: what is guarded.
        keys: the accepted keys.
        open_paths: paths that need no key.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], open_paths: Collection[str]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app for those who may.

        Raises:
            UnauthorizedError: no accepted key was sent.
        """
        guarded = scope["type"] == "http" and scope["path"] not in self._open_paths
        if guarded and self._keys and not self._knows(_key_in(Headers(scope=scope))):
            raise UnauthorizedError
        await self._app(scope, receive, send)

    def _knows(self, given: bytes) -> bool:
        """Compares with every key, each in constant time, so that timing tells nothing."""
        return any([hmac.compare_digest(given, key) for key in self._keys])


def _key_in(headers: Headers) -> bytes:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return (bearer or headers.get("x-api-key", "")).encode()
