"""Images that were sent, by the hash of their bytes. Knows hashes; knows no pixels and no HTTP."""

from sightline_proto import sha256_of
from sightline_service.caches import ByteLru
from sightline_service.errors import HashMismatchError


class ImageStore:
    """Encoded images under their SHA-256, at most `capacity_bytes`; the longest unused goes."""

    def __init__(self, capacity_bytes: int) -> None:
        self._images: ByteLru[str, bytes] = ByteLru(
            capacity_bytes, lambda key, data: len(key) + len(data)
        )

    @property
    def cache(self) -> ByteLru[str, bytes]:
        """The images, for metrics."""
        return self._images

    def __contains__(self, sha256: str) -> bool:
        """Whether an image is stored under the hash."""
        return sha256 in self._images

    def get(self, sha256: str) -> bytes | None:
        """Returns the file's bytes, or None."""
        return self._images.get(sha256)

    def keep(self, data: bytes) -> str:
        """Keeps `data`, if there is room for it at all, and returns its hash."""
        name = sha256_of(data)
        self._images.put(name, data)
        return name

    def put(self, sha256: str, data: bytes) -> bool:
        """Keeps `data`; returns whether the store is large enough for it.

        Raises:
            HashMismatchError: `sha256` is not the hash of `data`.
        """
        actual = sha256_of(data)
        if actual != sha256:
            raise HashMismatchError(expected=sha256, actual=actual)
        return self._images.put(sha256, data)
