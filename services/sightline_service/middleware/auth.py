"""Who may ask, and on whose behalf. Knows headers and paths; knows nothing else."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_service.errors import UnauthorizedError
from sightline_service.fairness import caller
from sightline_service.keys import KeyRing
from sightline_service.middleware.headers import header


class AuthMiddleware:
    """Asks for a key, by `Authorization: Bearer` or `X-API-Key`; a ring without keys, for none.

    The holder's name, or else the address, goes with the request as its `caller`.

    Args:
        app: what is guarded.
        keys: the accepted keys.
        open_paths: paths that need no key.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing, open_paths: Collection[str]) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app for those who may.

        Raises:
            UnauthorizedError: no accepted key was sent.
        """
        guarded = scope["type"] == "http" and scope["path"] not in self._open_paths
        if guarded:
            caller.set(self._name_of(scope))
        await self._app(scope, receive, send)

    def _name_of(self, scope: Scope) -> str:
        if not self._keys.asks:
            host, _ = scope.get("client") or ("", 0)
            return str(host)
        name = self._keys.holder(_key_in(scope))
        if name is None:
            raise UnauthorizedError
        return name


def _key_in(scope: Scope) -> bytes:
    scheme, _, credentials = (header(scope, b"authorization") or "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return (bearer or header(scope, b"x-api-key") or "").encode("latin-1")  # as it came
