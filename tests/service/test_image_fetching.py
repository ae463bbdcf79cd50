"""Images by URL: names that lie, addresses that are private, redirects that leave the list."""

import asyncio

import httpx
import pytest

from sightline_proto import Image
from sightline_service.errors import ImageFetchError, ImageUrlRefusedError
from sightline_service.image_fetching import FetchRules, ImageFetcher, is_public
from sightline_service.image_store import ImageStore
from sightline_service.images import DecodeLimits
from sightline_service.preparing import Preparer
from sightline_service.sources import ImageSource

pytestmark = pytest.mark.anyio

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.5"
NAMES = {
    "images.example.org": [PUBLIC],
    "deep.cdn.example.net": [PUBLIC],
    "metadata.example.net": ["169.254.169.254"],
    "half.example.net": [PUBLIC, PRIVATE],
}
RULES = FetchRules(("images.example.org", "*.example.net", "odd.example.org:8443"), 1000, 0.5)


Page = tuple[int, dict[str, str], bytes]


class Web:
    """Pages by path; remembers what was asked of which address."""

    def __init__(self, **pages: Page) -> None:
        self.pages = pages
        self.asked: list[tuple[str, str, str]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        sni = request.extensions["sni_hostname"]
        self.asked.append((request.url.host, request.headers["host"], sni))
        if request.url.path == "/slow":
            await asyncio.sleep(5)
        status, headers, content = self.pages[request.url.path.strip("/")]
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


async def lookup(host: str, port: int) -> list[str]:
    if host not in NAMES:
        raise OSError("no such host")
    return NAMES[host]


def fetcher(web: Web) -> ImageFetcher:
    return ImageFetcher(RULES, resolver=lookup, transport=httpx.MockTransport(web))


def page(content: bytes, status: int = 200) -> Page:
    return status, {}, content


def redirect(to: str) -> Page:
    return 302, {"location": to}, b""


async def test_an_allowed_image_comes_from_the_address_that_was_checked():
    web = Web(a=page(b"file"))
    assert await fetcher(web).fetch("https://images.example.org/a") == b"file"
    assert await fetcher(web).fetch(" https://deep.cdn.example.net:443/a") == b"file"
    assert web.asked[0] == (PUBLIC, "images.example.org", "images.example.org")


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example.org/a",
        "ftp://images.example.org/a",
        "file:///etc/passwd",
        "https://user:word@images.example.org/a",
        "https://images.example.org:8443/a",
        "https://images.example.org.evil.com/a",
        "https://evilexample.net/a",
        "https://example.net/a",
        "https://93.184.216.34/a",
        "https://metadata.example.net/a",
        "https://half.example.net/a",
        "https://[::1]/a",
        "https://",
        "https://images.example.org\\@evil.com/a",
    ],
)
async def test_what_is_not_on_the_list_or_not_public_is_never_connected_to(url):
    web = Web(a=page(b"file"))
    with pytest.raises(ImageUrlRefusedError):
        await fetcher(web).fetch(url)
    assert web.asked == []


@pytest.mark.parametrize(
    "target",
    [
        "https://metadata.example.net/latest",
        "http://images.example.org/a",
        "https://elsewhere.org/a",
        "//elsewhere.org/a",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_is_judged_like_the_first_url(target):
    web = Web(a=redirect(target))
    with pytest.raises(ImageUrlRefusedError):
        await fetcher(web).fetch("https://images.example.org/a")
    assert len(web.asked) == 1


async def test_good_redirects_are_followed_and_not_for_ever():
    web = Web(
        a=redirect("/b"),
        b=redirect("https://deep.cdn.example.net/c"),
        c=page(b"file"),
        d=redirect("/d"),
    )
    assert await fetcher(web).fetch("https://images.example.org/a") == b"file"
    with pytest.raises(ImageFetchError, match="more than 3 times"):
        await fetcher(web).fetch("https://images.example.org/d")


@pytest.mark.parametrize(
    ("path", "why"),
    [("gone", "404"), ("large", "more than 1000 bytes"), ("slow", "0.5 s")],
)
async def test_what_does_not_come_whole_and_in_time_is_an_error_of_its_item(path, why):
    web = Web(
        gone=page(b"", 404),
        large=page(b"x" * 1001),
    )
    with pytest.raises(ImageFetchError, match=why):
        await fetcher(web).fetch(f"https://images.example.org/{path}")
    with pytest.raises(ImageFetchError, match="unknown"):
        await fetcher(web).fetch("https://nowhere.example.net/a")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_public_is_what_lies_outside_of_every_house(address, public):
    assert is_public(address) is public


async def test_a_message_with_a_url_is_scored_as_one_with_the_bytes(image):
    data, preparer = image(3), Preparer(1)
    store, limits = ImageStore(10_000), DecodeLimits()
    web = Web(a=page(data))
    source = ImageSource(store, limits, preparer, fetcher(web))
    fetched = await source.open(Image("https://images.example.org/a"))
    sent = await source.open(Image(data))
    assert fetched == sent
    assert store.get(fetched.sha256) == data
    preparer.close()
