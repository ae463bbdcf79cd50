"""Keys, fixed and from a file: hand-made files and a clock of our own."""

import logging
from pathlib import Path

import pytest

from sightline_service.flags import SettingsError, parse_settings
from sightline_service.keys import KeyFileError, KeyRing


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# of the trainers\nold\n\n  spaced  \n")
    return path


def test_a_key_is_known_whole_and_its_holder_has_a_name_that_does_not_tell_it(file):
    ring = KeyRing(["fixed"], file)
    names = [ring.holder(key) for key in (b"fixed", b"old", b"spaced")]
    assert len(set(names)) == 3
    assert None not in names
    assert not any(key in name for key in ("fixed", "old") for name in names)
    assert [ring.holder(key) for key in (b"", b"fixe", b"fixed ", b"# of the trainers")] == [
        None
    ] * 4


def test_keys_rotate_while_the_service_runs(file, caplog):
    now = 0.0
    ring = KeyRing(file=file, clock=lambda: now)
    file.write_text("old\nnew\n")
    assert ring.holder(b"new") is None, "the file is looked at once a second"
    now = 1.5
    assert ring.holder(b"old")
    assert ring.holder(b"new")
    file.write_text("new\n")
    now = 3.0
    with caplog.at_level(logging.INFO):
        assert ring.holder(b"old") is None
        assert ring.holder(b"new")
    assert "new" not in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("slip", ["empty", "gone", "no text"])
def test_a_slip_with_the_file_neither_opens_the_service_nor_locks_everybody_out(file, slip, caplog):
    now = 0.0
    ring = KeyRing(file=file, clock=lambda: now)
    if slip == "gone":
        file.unlink()
    else:
        file.write_bytes(b"\n#\n" if slip == "empty" else b"\xff\xfe")
    now = 2.0
    assert ring.asks
    assert ring.holder(b"old")
    assert ring.holder(b"") is None
    assert "the keys stay as they were" in caplog.text


def test_a_service_does_not_start_open_because_its_file_of_keys_is_empty(tmp_path):
    file = tmp_path / "keys"
    file.write_text("\n")
    with pytest.raises(KeyFileError, match="holds no key"):
        KeyRing(file=file)
    with pytest.raises(SettingsError, match="--api-key-file: .*holds no key"):
        parse_settings(["--api-key-file", str(file)])
