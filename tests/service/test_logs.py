"""What the process logs, and in which form."""

import json
import logging
from collections.abc import Iterator

import pytest

from sightline_service.logs import configure


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("sightline_service")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level = before[:2]
    own.setLevel(before[2])


def test_the_service_narrates_and_the_libraries_only_warn(capsys):
    configure("text", "info")
    logging.getLogger("sightline_service.engine").info("ready")
    logging.getLogger("open_clip").info("Instantiating")
    logging.getLogger("open_clip").warning("No tokenizer")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["ready", "No tokenizer"]


def test_a_json_line_holds_what_extra_adds(capsys):
    configure("json", "debug")
    logging.getLogger("sightline_service").debug("loaded", extra={"seconds": 1.5})
    entry = json.loads(capsys.readouterr().err)
    assert entry["message"] == "loaded"
    assert entry["level"] == "debug"
    assert entry["seconds"] == 1.5
    assert entry["request_id"] is None
