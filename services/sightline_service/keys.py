"""The keys that callers may send, and a file of them that changes. Knows files; knows no HTTP."""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class KeyFileError(ValueError):
    """The file of keys cannot be read, or holds none; the message names it."""


class KeyRing:
    """The accepted keys: fixed ones, and those of a file that may change while the service runs.

    To rotate, write the new key beside the old one, move the callers, and take the old one out:
    the file is looked at once a second. A file that has become unreadable or empty changes
    nothing, since a slip of the hand must neither open the service nor lock everybody out.

    Args:
        fixed: keys that do not change.
        file: one key a line; blank lines, and lines that begin with #, do not count.
        clock: seconds that never go back.

    Raises:
        KeyFileError: the file cannot be read, or holds no key.
    """

    def __init__(
        self,
        fixed: Sequence[str] = (),
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = tuple(key.encode() for key in fixed)
        self._file = file
        self._clock = clock
        self._looked = clock()
        self._seen: tuple[int, ...] | None = None
        self._keys = self._fixed
        if file is not None:
            self._seen = _version(file)
            self._keys += _read(file)

    @property
    def asks(self) -> bool:
        """Whether a key is asked for at all."""
        return bool(self._keys)

    @property
    def several(self) -> bool:
        """Whether there may be more than one holder."""
        return len(self._keys) > 1

    def holder(self, given: bytes) -> str | None:
        """Returns a name for the holder of the key `given`, or None where it is not accepted.

        Each key is compared, and each in constant time, so that timing tells nothing. The name is
        derived from the key and does not tell it.
        """
        self._look()
        known = any([hmac.compare_digest(given, key) for key in self._keys])
        return hashlib.sha256(given).hexdigest()[:12] if known else None

    def _look(self) -> None:
        now = self._clock()
        if self._file is None or now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        try:
            version = _version(self._file)
            if version != self._seen:
                self._seen = version
                self._keys = self._fixed + _read(self._file)
                log.info("the keys were read anew", extra={"keys": len(self._keys)})
        except KeyFileError as error:
            log.warning("the keys stay as they were: %s", error)


def _version(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError as error:
        raise KeyFileError(f"{file}: {error.strerror}") from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(file: Path) -> tuple[bytes, ...]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise KeyFileError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{file} is not UTF-8: write one key a line") from None
    keys = tuple(line.encode() for line in lines if line and not line.startswith("#"))
    if not keys:
        raise KeyFileError(f"{file} holds no key: write one key a line")
    return keys
