"""The service with the shipped fakes, whose forward pass does what the words of a text say.

Everything but the models is `sightline serve`: a text that contains one of the words below makes
its own batch raise, exhaust memory, take long, or end the model's thread.
"""

import logging
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sightline_service import logs
from sightline_service.app import create_app
from sightline_service.flags import parse_settings
from sightline_service.models.fake import (
    FakeDetector,
    FakeModelError,
    FakePerplexity,
    FakeSimilarity,
    Trouble,
)
from sightline_service.models.protocols import OutOfDeviceMemoryError
from sightline_service.served import Models
from sightline_service.server import DrainingServer, listen, url_of

RAISES, DIES, NO_ROOM, LITTLE_ROOM, SLEEPS = "raises", "dies", "no room", "little room", "sleeps"
ROOM = 2
"""Inputs that fit where there is little room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken(Trouble):
    """Trouble that a text asks for: `sleeps 0.5` takes half a second."""

    def strike(self, texts: Sequence[str]) -> None:
        spoken = " ".join(texts)
        if found := re.search(rf"{SLEEPS} ([\d.]+\d)", spoken):
            time.sleep(float(found[1]))
        if RAISES in spoken:
            raise FakeModelError("as the text says")
        if DIES in spoken:
            raise SystemExit("as the text says")
        if NO_ROOM in spoken or (LITTLE_ROOM in spoken and len(texts) > ROOM):
            raise OutOfDeviceMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Loader:
    """Loads nothing."""

    roles = ("similarity", "detector", "perplexity")

    def __call__(self, report) -> Models:
        for role in self.roles:
            report(role, "loading")
            report(role, "ready")
        trouble = Spoken()
        return Models(FakeSimilarity(trouble), FakeDetector(trouble), FakePerplexity(trouble))


def main() -> None:
    settings = parse_settings(None)
    logs.configure(settings.log_format, settings.log_level)
    listener = listen(settings.host, settings.port)
    logging.getLogger("sightline_service").info("serving on %s", url_of(listener))
    DrainingServer(create_app(settings, Loader()), settings).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
