"""Where an item's image comes from: its own bytes, or the store. Knows files; knows no models."""

from dataclasses import dataclass

import PIL.Image

from sightline_proto import Image
from sightline_service.errors import ImageNotFoundError
from sightline_service.image_fetching import ImageFetcher
from sightline_service.image_store import ImageStore
from sightline_service.images import DecodeLimits, decode_image
from sightline_service.preparing import Preparer

_READS_FASTER = 8
"""Base64 and SHA-256 go through a byte that much faster than what else threads are for."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file. `data` is None where only its hash is known: its embedding may be cached."""

    sha256: str
    data: bytes | None
    limits: DecodeLimits

    def decode(self) -> PIL.Image.Image:
        """Returns the RGB pixels; CPU work, for the preparing threads.

        Raises:
            ImageNotFoundError: nothing is stored under the hash.
            ImageRefusedError: the bytes are no image, or one beyond the limits.
        """
        if self.data is None:
            raise ImageNotFoundError(self.sha256)
        return decode_image(self.data, self.limits)


class ImageSource:
    """Turns the images of messages into files."""

    def __init__(
        self,
        store: ImageStore,
        limits: DecodeLimits,
        preparer: Preparer,
        fetcher: ImageFetcher | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._preparer = preparer
        self._fetcher = fetcher

    async def open(self, image: Image) -> EncodedImage:
        """Returns the file behind `image`, with its hash.

        Raises:
            ImageUrlError: the image is given as a URL, and this service fetches none.
            ImageUrlRefusedError, ImageFetchError: this one is not fetched, or cannot be.
            ImageEncodingError: the image is given as text that is no base64.
        """
        if image.sha256 is not None:
            return EncodedImage(image.sha256, self._store.get(image.sha256), self._limits)
        if image.url is not None and self._fetcher is not None:
            image = Image(await self._fetcher.fetch(image.url))
        size = len(image.value) // _READS_FASTER
        return await self._preparer.run("prepare", lambda: self._read(image), size=size)

    def _read(self, image: Image) -> EncodedImage:
        data = image.decode()
        # Kept, so that the caller's next question about this image need not send it again.
        return EncodedImage(self._store.keep(data), data, self._limits)
