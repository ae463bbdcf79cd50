"""The client's settings, and the only reader of REWARD_URL and REWARD_API_KEY. Knows no network."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal, Self, get_args

import httpx

from sightline.errors import ConfigurationError

Wire = Literal["protobuf", "json"]

URL_VARIABLE = "REWARD_URL"
API_KEY_VARIABLE = "REWARD_API_KEY"
CONNECT_TIMEOUT_S = 5.0
USER_AGENT = f"sightline/{version('sightline')}"

_NO_URL = (
    f"no reward service is named: set {URL_VARIABLE} or give base_url "
    f"(start one with `sightline serve`, then {URL_VARIABLE}=http://127.0.0.1:8000)"
)


class GivenUrl(str):
    """One URL, or several separated by commas, that messages call by where it was given."""

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, url: str, origin: str) -> Self:
        """Returns `url`, given as `origin`, such as a flag."""
        given = super().__new__(cls, url)
        given.origin = origin
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Where the service is and how patiently to ask it.

    Args:
        base_urls: one or more addresses of equal services, asked in turn.
        api_key: sent as `Authorization: Bearer`; None sends none.
        timeout_s: seconds for one request with all its retries, counted from its first attempt.
        retries: further attempts after the first, for failures that may pass.
        max_concurrency: requests in flight at once.
        wire: how bodies travel; both give the same scores, protobuf is smaller.
        origin: what messages call the setting that the addresses came from.

    Raises:
        ConfigurationError: a value is impossible.
    """

    base_urls: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    retries: int = 4
    max_concurrency: int = 32
    wire: Wire = "protobuf"
    origin: str = "base_url"

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if not self.base_urls:
            raise ConfigurationError(_NO_URL)
        for url in self.base_urls:
            _check_url(url, self.origin)
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise ConfigurationError(f"timeout_s is {self.timeout_s!r}: give seconds above 0")
        if self.retries < 0:
            raise ConfigurationError(f"retries is {self.retries!r}: give 0 or more")
        if self.max_concurrency < 1:
            raise ConfigurationError(f"max_concurrency is {self.max_concurrency!r}: give 1 or more")
        if self.wire not in get_args(Wire):
            raise ConfigurationError(f'wire is {self.wire!r}: give "protobuf" or "json"')
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigurationError(
                "api_key holds characters that a header cannot carry: give printable ASCII"
            )


def read_config(
    base_url: str | Sequence[str] | None,
    api_key: str | None,
    timeout_s: float,
    retries: int,
    max_concurrency: int,
    wire: Wire,
    *,
    environment: Mapping[str, str] = os.environ,
) -> ClientConfig:
    """Builds the settings; what is None comes from REWARD_URL (comma-separated) and REWARD_API_KEY.

    Raises:
        ConfigurationError: no URL is given anywhere, or a value is impossible.
    """
    given = environment.get(URL_VARIABLE, "") if base_url is None else base_url
    origin = URL_VARIABLE if base_url is None else getattr(base_url, "origin", "base_url")
    urls = given.split(",") if isinstance(given, str) else given
    key = environment.get(API_KEY_VARIABLE) if api_key is None else api_key
    return ClientConfig(
        base_urls=tuple(url.strip().rstrip("/") for url in urls if url.strip()),
        api_key=(key or "").strip() or None,
        timeout_s=timeout_s,
        retries=retries,
        max_concurrency=max_concurrency,
        wire=wire,
        origin=origin,
    )


def _check_url(url: str, origin: str) -> None:
    mend = "write it as http://host:port or https://host"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{origin} {url!r} is not a URL ({error}): {mend}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(f"{origin} {url!r} has no http(s) scheme and host: {mend}")
    if parsed.userinfo:
        raise ConfigurationError(
            f"{origin} for {parsed.host} holds a password: give api_key instead"
        )
    if parsed.query or parsed.fragment:
        raise ConfigurationError(f"{origin} {url!r} holds a query or a fragment: {mend}")
