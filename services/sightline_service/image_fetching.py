"""Images that a message names by URL, from allowed hosts only. Knows names, addresses and HTTP.

Whoever sends a URL chooses what this process connects to, from inside the cluster's network. So a
host must be on the list of the deployment, every address that its name stands for must be public,
the connection goes to the very address that was looked at (a name may stand for another one a
moment later), and all of that again for each redirect.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

from sightline_service.errors import ImageFetchError, ImageUrlRefusedError

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_HTTPS_PORT = 443
_EMBEDDED_V4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""Ranges of IPv6 whose last 32 bits are an IPv4 address that a gateway will connect to."""


@dataclass(frozen=True, slots=True)
class FetchRules:
    """From where images may be fetched, and how much of them.

    Attributes:
        hosts: `images.example.org`, `images.example.org:8443`, or `*.example.org` for all names
            below example.org. Over HTTPS only.
        max_bytes: of one file.
        timeout_s: for one file, redirects included.
    """

    hosts: tuple[str, ...]
    max_bytes: int
    timeout_s: float

    def allows(self, url: httpx.URL) -> bool:
        """Whether the list has the URL's host and port."""
        port = url.port or _HTTPS_PORT
        names = (url.host, *_parents(url.host))
        wanted = {f"{name}:{port}" for name in names}
        listed = {host if ":" in host else f"{host}:{_HTTPS_PORT}" for host in self.hosts}
        return not wanted.isdisjoint(listed)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Returns all addresses of a name, by the system's resolver.

    Raises:
        OSError: the name has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether an address is of the public internet: not this machine, network or cluster.

    Addresses of IPv6 that stand for one of IPv4 are judged by that one.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if any(parsed in network for network in _EMBEDDED_V4):
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if parsed.teredo is not None:
            return False
        parsed = inner or parsed
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class ImageFetcher:
    """Fetches image files by the rules.

    Args:
        rules: which, and how much.
        resolver: returns all addresses of a name.
        transport: replaces the network.
    """

    def __init__(
        self,
        rules: FetchRules,
        *,
        resolver: Resolver = resolve,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._rules = rules
        self._resolver = resolver
        self._transport = transport
        self._tls = ssl.create_default_context()

    async def fetch(self, url: str) -> bytes:
        """Returns the file's bytes.

        Raises:
            ImageUrlRefusedError: the URL, or one that it redirects to, is not to be fetched.
            ImageFetchError: there is no such file, it is too large, or it does not come in time.
        """
        try:
            async with (
                asyncio.timeout(self._rules.timeout_s),
                httpx.AsyncClient(
                    transport=self._transport, verify=self._tls, trust_env=False
                ) as client,
            ):
                return await self._follow(client, _parsed(url))
        except TimeoutError:
            raise ImageFetchError(f"it did not come within {self._rules.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise ImageFetchError(type(error).__name__) from None

    async def _follow(self, client: httpx.AsyncClient, url: httpx.URL) -> bytes:
        for _ in range(1 + _MAX_REDIRECTS):
            address = await self._checked_address(url)
            async with client.stream(
                "GET",
                url.copy_with(host=address),
                headers={"Host": url.netloc.decode(), "Accept-Encoding": "identity"},
                extensions={"sni_hostname": url.host},
            ) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._body(response)
                url = url.join(_parsed(response.headers.get("location", "")))
        raise ImageFetchError(f"it redirects more than {_MAX_REDIRECTS} times")

    async def _checked_address(self, url: httpx.URL) -> str:
        if url.scheme != "https" or url.userinfo:
            raise ImageUrlRefusedError("it must begin with https:// and name no user")
        if not self._rules.allows(url):
            raise ImageUrlRefusedError(f"host {url.host[:200]!r} is not on this service's list")
        try:
            addresses = await self._resolver(url.host, url.port or _HTTPS_PORT)
        except OSError:
            raise ImageFetchError(f"host {url.host[:200]!r} is unknown") from None
        if not addresses or not all(map(is_public, addresses)):
            raise ImageUrlRefusedError(f"host {url.host[:200]!r} has an address that is not public")
        return addresses[0]

    async def _body(self, response: httpx.Response) -> bytes:
        if response.status_code != httpx.codes.OK.value:
            raise ImageFetchError(f"its host answered {response.status_code}")
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > self._rules.max_bytes:
                raise ImageFetchError(f"it has more than {self._rules.max_bytes} bytes")
        return bytes(data)


def _parents(host: str) -> list[str]:
    labels = host.split(".")
    return ["*." + ".".join(labels[n:]) for n in range(1, len(labels))]


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url.strip())
    except httpx.InvalidURL:
        raise ImageUrlRefusedError("it is no URL") from None
